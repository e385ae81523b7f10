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
#include <glob.h>
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
	int nb_fds;
	int fds[2]; /* of the lock, unless the device could not be locked, and of /dev/uioX */
};

static LIST_HEAD(, pci_uio_claim) pci_uio_claims = LIST_HEAD_INITIALIZER(pci_uio_claims);
/* a device may be hot-plugged in another thread */
static pthread_mutex_t pci_uio_claims_mutex = PTHREAD_MUTEX_INITIALIZER;

/*
 * Log which processes hold the lock on a file; false if none is visible, as in another PID
 * namespace. The process that took the lock, as of /proc/locks, may have ended.
 */
static bool
pci_uio_log_holders(const struct rte_pci_device *dev, int fd)
{
	unsigned int dev_major, dev_minor;
	int pid, last = 0;
	uint64_t inode;
	char line[128];
	struct stat st;
	glob_t files;
	size_t i;
	FILE *f;

	if (fstat(fd, &st) < 0 || glob("/proc/[1-9]*/fdinfo/*", GLOB_NOSORT, NULL, &files) != 0)
		return false;
	for (i = 0; i < files.gl_pathc; i++) {
		pid = atoi(files.gl_pathv[i] + strlen("/proc/"));
		f = pid != last ? fopen(files.gl_pathv[i], "re") : NULL;
		while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
			if (sscanf(line, "lock: %*d: FLOCK %*s %*s %*d %x:%x:%" SCNu64,
					&dev_major, &dev_minor, &inode) == 3 &&
					inode == st.st_ino &&
					makedev(dev_major, dev_minor) == st.st_dev) {
				PCI_LOG(ERR, "%s is in use by process %d", dev->name, pid);
				last = pid;
			}
		}
		if (f != NULL)
			fclose(f);
	}
	globfree(&files);
	return last != 0;
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
		if (fstat(claim->fds[0], &locked) == 0 && locked.st_dev == file.st_dev &&
				locked.st_ino == file.st_ino)
			return claim->fds[0];
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
	int fd, own, tries = 0;

	fd = pci_uio_open_resource(dev, path, sizeof(path));
	while (fd >= 0) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			break;
		own = pci_uio_own_lock(fd);
		if (own >= 0) {
			close(fd);
			return fcntl(own, F_DUPFD_CLOEXEC, 0);
		}
		/* a process that is not visible may be ending: wait for it, for 100 ms */
		if (pci_uio_log_holders(dev, fd) || tries++ == 10) {
			PCI_LOG(ERR, "%s is in use by another process, not probing", dev->name);
			close(fd);
			return -EBUSY;
		}
		usleep(10000);
	}

	/* the device can be used without this protection */
	PCI_LOG(WARNING, "Cannot lock %s: %s; %s is not protected from other processes",
		path, strerror(errno), dev->name);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Remove a claim from the list, with the mutex locked. */
static void
pci_uio_release(struct pci_uio_claim *claim)
{
	LIST_REMOVE(claim, next);
	/*
	 * Closing /dev/uioX stops DMA, so that the lock must end later.
	 * Not by LOCK_UN: a forked process may have both files still open.
	 */
	while (claim->nb_fds > 0)
		close(claim->fds[--claim->nb_fds]);
	free(claim);
}

int
pci_uio_open(const struct rte_pci_device *dev, const char *devname)
{
	struct pci_uio_claim *claim;
	int ret;

	claim = calloc(1, sizeof(*claim));
	if (claim == NULL)
		return -ENOMEM;

	pthread_mutex_lock(&pci_uio_claims_mutex);
	ret = pci_uio_lock(dev);
	LIST_INSERT_HEAD(&pci_uio_claims, claim, next);
	if (ret >= 0)
		claim->fds[claim->nb_fds++] = ret;
	if (ret != -EBUSY) {
		/* the higher FD: the kernel releases it first when the process exits */
		ret = open(devname, O_RDWR | O_CLOEXEC);
		if (ret >= 0) {
			claim->fds[claim->nb_fds++] = ret;
		} else {
			ret = -errno;
			PCI_LOG(ERR, "Cannot open %s: %s", devname, strerror(errno));
		}
	}
	if (ret < 0) {
		pci_uio_release(claim);
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
		if (claim->fds[claim->nb_fds - 1] == fd)
			break;
	}
	if (claim != NULL)
		pci_uio_release(claim);
	pthread_mutex_unlock(&pci_uio_claims_mutex);
}
