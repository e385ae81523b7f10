/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Who owns a UIO device.
 *
 * The owner holds a lock on the config space file of the device in sysfs, from before it opens
 * /dev/uioX until after it has closed it. The lock belongs to the open file: it ends when the
 * process ends, however that happens. A process that it forked has both files open as well: its
 * end would stop DMA, so that the device stays claimed until then.
 *
 * An owner that takes no such lock is not seen: a program that is not DPDK, a DPDK without this
 * file, a process in another network namespace, which has a sysfs of its own. On the other hand any
 * user who may read config space can lock it, and keep the device from being attached.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_interrupts.h>
#include <rte_string_fns.h>

#include "pci_init.h"
#include "private.h"

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
		strlcpy(text, "this process, or one that it forked", size);
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

int
pci_uio_claim(struct rte_pci_device *dev)
{
	int fd = rte_intr_dev_fd_get(dev->intr_handle);
	char holder[96];
	int ret;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;

	ret = errno == EWOULDBLOCK ? EBUSY : errno;
	if (ret == EBUSY) {
		pci_uio_name_holder(fd, holder, sizeof(holder));
		PCI_LOG(ERR, "%s is in use by %s: it is left alone", dev->name, holder);
	} else {
		PCI_LOG(ERR, "Cannot lock config space of %s: %s", dev->name, strerror(ret));
	}
	/* in most versions the bus makes errno the rte_errno of a probe */
	errno = ret;
	rte_errno = ret;

	return -ret;
}
