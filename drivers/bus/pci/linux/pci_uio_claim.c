/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Refuse a UIO device that another primary process uses: closing /dev/uioX would stop its DMA.
 *
 * A primary process locks a file of the device in sysfs before it opens /dev/uioX, and until it
 * has closed it. The kernel releases the lock when the process exits.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <rte_bus_pci.h>
#include <rte_errno.h>
#include <rte_pci.h>

#include "pci_init.h"
#include "private.h"

/* an open UIO device; a device may be open twice, and outlive its struct rte_pci_device */
struct pci_uio_claim {
	LIST_ENTRY(pci_uio_claim) next;
	int uio_fd;
	int lock_fd; /* -1 if the device could not be locked */
};

static LIST_HEAD(, pci_uio_claim) pci_uio_claims = LIST_HEAD_INITIALIZER(pci_uio_claims);
/* a device may be hot-plugged in another thread */
static pthread_mutex_t pci_uio_claims_mutex = PTHREAD_MUTEX_INITIALIZER;

/* process that holds the lock on a file, 0 if unknown: it may be in another PID namespace */
static int
pci_uio_lock_holder(int fd)
{
	unsigned int dev_major, dev_minor;
	int pid, holder = 0;
	uint64_t inode;
	char line[128];
	struct stat st;
	FILE *f;

	f = fopen("/proc/locks", "re");
	if (f == NULL || fstat(fd, &st) < 0)
		goto out;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%" SCNu64, &pid, &dev_major,
				&dev_minor, &inode) == 4 && inode == st.st_ino &&
				dev_major == major(st.st_dev) && dev_minor == minor(st.st_dev))
			holder = pid;
	}
out:
	if (f != NULL)
		fclose(f);
	return holder;
}

/* FD with which this process holds the lock on a file, -1 if there is none */
static int
pci_uio_own_lock(int fd)
{
	struct pci_uio_claim *claim;
	struct stat file, locked;

	if (fstat(fd, &file) < 0)
		return -1;
	/* a device plugged at the address of another one has other files */
	LIST_FOREACH(claim, &pci_uio_claims, next) {
		if (fstat(claim->lock_fd, &locked) == 0 && locked.st_dev == file.st_dev &&
				locked.st_ino == file.st_ino)
			return claim->lock_fd;
	}
	return -1;
}

/* Open the file to lock. Only root may open a resource file; any user could lock config. */
static int
pci_uio_open_resource(const struct rte_pci_device *dev, char *path, size_t size)
{
	bool has_memory = false;
	int i, fd = -1;

	for (i = 0; i < PCI_MAX_RESOURCE; i++)
		has_memory |= dev->mem_resource[i].phys_addr != 0;

	errno = ENOENT;
	for (i = 0; i < PCI_MAX_RESOURCE && fd < 0 && errno == ENOENT; i++) {
		/* a memory BAR is going to be mapped, so that its file has to be accessible */
		if (has_memory && dev->mem_resource[i].phys_addr == 0)
			continue;
		snprintf(path, size, "%s/" PCI_PRI_FMT "/resource%d", rte_pci_get_sysfs_path(),
			dev->addr.domain, dev->addr.bus, dev->addr.devid, dev->addr.function, i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return fd;
}

/* Returns the FD that holds the lock, -1 if there is no lock, -EBUSY if another process has it. */
static int
pci_uio_lock(const struct rte_pci_device *dev)
{
	char path[PATH_MAX] = "";
	int fd, own, holder;

	fd = pci_uio_open_resource(dev, path, sizeof(path));
	while (fd >= 0) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		if (errno != EINTR)
			break;
	}
	if (fd < 0 || errno != EWOULDBLOCK) {
		/* the device can be used without this protection */
		PCI_LOG(WARNING, "Cannot lock %s: %s; %s is not protected from other processes",
			path, strerror(errno), dev->name);
		if (fd >= 0)
			close(fd);
		return -1;
	}

	own = pci_uio_own_lock(fd);
	/* may be a killed process that has not ended yet, as while it writes a core dump */
	holder = own < 0 ? pci_uio_lock_holder(fd) : 0;
	close(fd);
	if (own >= 0)
		return fcntl(own, F_DUPFD_CLOEXEC, 0);
	if (holder > 0)
		PCI_LOG(ERR, "%s is in use by process %d, not probing", dev->name, holder);
	else
		PCI_LOG(ERR, "%s is in use by another process, not probing", dev->name);
	return -EBUSY;
}

int
pci_uio_open(const struct rte_pci_device *dev, const char *devname)
{
	struct pci_uio_claim *claim;
	int ret = -EBUSY;

	claim = malloc(sizeof(*claim));
	if (claim == NULL)
		return -ENOMEM;

	pthread_mutex_lock(&pci_uio_claims_mutex);
	claim->lock_fd = pci_uio_lock(dev);
	if (claim->lock_fd != -EBUSY) {
		/* the higher FD: the kernel releases it first when the process exits */
		ret = open(devname, O_RDWR | O_CLOEXEC);
		if (ret < 0) {
			ret = -errno;
			PCI_LOG(ERR, "Cannot open %s: %s", devname, strerror(errno));
		}
	}
	if (ret >= 0) {
		claim->uio_fd = ret;
		LIST_INSERT_HEAD(&pci_uio_claims, claim, next);
	} else {
		if (claim->lock_fd >= 0)
			close(claim->lock_fd);
		free(claim);
		/* for rte_bus_probe(), which does not return it */
		errno = -ret;
		rte_errno = -ret;
	}
	pthread_mutex_unlock(&pci_uio_claims_mutex);

	return ret;
}

void
pci_uio_close(int fd)
{
	struct pci_uio_claim *claim;

	pthread_mutex_lock(&pci_uio_claims_mutex);
	LIST_FOREACH(claim, &pci_uio_claims, next) {
		if (claim->uio_fd == fd)
			break;
	}
	/* this stops DMA, so that the lock must end later */
	close(fd);
	if (claim != NULL) {
		LIST_REMOVE(claim, next);
		/* not LOCK_UN: a forked process may have both files still open */
		if (claim->lock_fd >= 0)
			close(claim->lock_fd);
		free(claim);
	}
	pthread_mutex_unlock(&pci_uio_claims_mutex);
}
