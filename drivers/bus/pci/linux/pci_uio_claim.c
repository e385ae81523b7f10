/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Who owns a UIO device.
 *
 * The owner holds a lock on a file of the device in sysfs, from before it opens /dev/uioX until
 * after it has closed it. The lock belongs to the open file: it ends when the process ends, however
 * that happens. A process that it forked has both files open as well: its end would stop DMA, so
 * that the device stays claimed until then.
 *
 * The file is the first of resource0 to resource5 that the device has: root alone may open it. Who
 * may open a file may lock it, and keep the device from being attached: all may open config space.
 *
 * An owner that takes no such lock is not seen: a program that is not DPDK, a DPDK without this
 * file, a process with another sysfs mounted, as a container with a network of its own has.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
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
#include <rte_string_fns.h>

#include "pci_init.h"
#include "private.h"

/* a device that this process owns, in memory of its own: the lock is no other's */
struct pci_uio_claim {
	TAILQ_ENTRY(pci_uio_claim) next;
	struct rte_pci_addr addr;
	int fd;             /* that holds the lock */
	unsigned int files; /* how often this process has /dev/uioX open */
};

static TAILQ_HEAD(, pci_uio_claim) pci_uio_claims = TAILQ_HEAD_INITIALIZER(pci_uio_claims);
/* a device may come or go in the thread of EAL that handles hotplug */
static pthread_mutex_t pci_uio_claims_lock = PTHREAD_MUTEX_INITIALIZER;

/* the process that locked the file, 0 when that cannot be known */
static int
pci_uio_lock_holder(int fd)
{
	unsigned int dev_major, dev_minor;
	int pid, holder = 0;
	uint64_t inode;
	char line[128];
	struct stat st;
	FILE *f;

	if (fstat(fd, &st) < 0)
		return 0;
	/* processes of PID namespaces that are not visible here are left out */
	f = fopen("/proc/locks", "r");
	if (f == NULL)
		return 0;
	while (holder == 0 && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%" SCNu64, &pid, &dev_major,
				&dev_minor, &inode) == 4 && inode == st.st_ino &&
				dev_major == major(st.st_dev) && dev_minor == minor(st.st_dev))
			holder = pid;
	}
	fclose(f);

	return holder;
}

static void
pci_uio_name_holder(int fd, char *text, size_t size)
{
	char path[64], comm[32];
	FILE *f = NULL;
	int pid;

	pid = pci_uio_lock_holder(fd);
	if (pid == getpid()) {
		strlcpy(text, "a process that this one forked", size);
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	if (pid != 0)
		f = fopen(path, "r");
	if (pid == 0)
		strlcpy(text, "another process", size);
	else if (f != NULL && fscanf(f, "%31[^\n]", comm) == 1)
		snprintf(text, size, "process %d (%s)", pid, comm);
	else
		snprintf(text, size, "process %d, or one that it forked", pid);
	if (f != NULL)
		fclose(f);
}

/* the file to lock, opened to read: sysfs may be read-only; -ENOENT when there is no BAR */
static int
pci_uio_open_lock(const struct rte_pci_device *dev)
{
	char path[PATH_MAX];
	int i, fd = -ENOENT;

	for (i = 0; i < PCI_MAX_RESOURCE && fd == -ENOENT; i++) {
		snprintf(path, sizeof(path), "%s/" PCI_PRI_FMT "/resource%d",
			rte_pci_get_sysfs_path(), dev->addr.domain, dev->addr.bus,
			dev->addr.devid, dev->addr.function, i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	if (fd < 0 && fd != -ENOENT)
		PCI_LOG(ERR, "Cannot open %s: %s", path, strerror(-fd));

	return fd;
}

/* lock the file, or say why not */
static int
pci_uio_lock(const struct rte_pci_device *dev, int fd)
{
	char holder[96];
	int ret;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;

	ret = errno == EWOULDBLOCK ? EBUSY : errno;
	if (ret == EBUSY) {
		pci_uio_name_holder(fd, holder, sizeof(holder));
		PCI_LOG(ERR, "%s is in use by %s: it is left alone", dev->name, holder);
	} else {
		PCI_LOG(ERR, "Cannot lock a resource of %s: %s", dev->name, strerror(ret));
	}

	return -ret;
}

static struct pci_uio_claim *
pci_uio_find_claim(const struct rte_pci_device *dev)
{
	struct pci_uio_claim *claim;

	TAILQ_FOREACH(claim, &pci_uio_claims, next) {
		if (rte_pci_addr_cmp(&claim->addr, &dev->addr) == 0)
			break;
	}
	return claim;
}

/* claim a device for one more open of /dev/uioX */
static int
pci_uio_claim(const struct rte_pci_device *dev)
{
	struct pci_uio_claim *claim;
	int ret;

	claim = pci_uio_find_claim(dev);
	if (claim != NULL) {
		/* a second lock of the file would be refused, as that of another process */
		claim->files++;
		return 0;
	}

	claim = malloc(sizeof(*claim));
	if (claim == NULL)
		return -ENOMEM;
	claim->addr = dev->addr;
	claim->files = 1;
	claim->fd = pci_uio_open_lock(dev);
	if (claim->fd < 0) {
		/* without a BAR nobody can drive the device, and there is nothing to claim */
		ret = claim->fd == -ENOENT ? 0 : claim->fd;
		goto free;
	}
	ret = pci_uio_lock(dev, claim->fd);
	if (ret < 0)
		goto close;
	TAILQ_INSERT_TAIL(&pci_uio_claims, claim, next);

	return 0;

close:
	close(claim->fd);
free:
	free(claim);
	return ret;
}

/* an open of /dev/uioX has ended; the claim ends with the last */
static void
pci_uio_unclaim(const struct rte_pci_device *dev)
{
	struct pci_uio_claim *claim;

	claim = pci_uio_find_claim(dev);
	if (claim == NULL || --claim->files > 0)
		return;
	TAILQ_REMOVE(&pci_uio_claims, claim, next);
	/* not LOCK_UN: a process that was forked may have /dev/uioX open still */
	close(claim->fd);
	free(claim);
}

int
pci_uio_open(struct rte_pci_device *dev, const char *devname)
{
	int fd = -1, ret;

	pthread_mutex_lock(&pci_uio_claims_lock);
	ret = pci_uio_claim(dev);
	if (ret == 0) {
		/* for a program that this process executes there is no claim either */
		fd = open(devname, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			ret = -errno;
			pci_uio_unclaim(dev);
		}
	} else if (ret == -EBUSY) {
		fd = ret;
	}
	pthread_mutex_unlock(&pci_uio_claims_lock);
	if (fd < 0) {
		/* in most versions the bus makes errno the rte_errno of a probe */
		errno = -ret;
		rte_errno = -ret;
	}

	return fd;
}

void
pci_uio_close(struct rte_pci_device *dev, int fd)
{
	/* this stops DMA: it comes before the claim on the device ends */
	close(fd);

	pthread_mutex_lock(&pci_uio_claims_lock);
	pci_uio_unclaim(dev);
	pthread_mutex_unlock(&pci_uio_claims_lock);
}
