/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef PCI_UIO_TEST_H
#define PCI_UIO_TEST_H

/**
 * @file
 * Parts of pci_uio_secondary_autotest, see test_pci_uio_secondary.c.
 *
 * The primary runs the cases. What a case wants a secondary to do is a role: the same program,
 * started again with UIO_ENV_ROLE set, attaches the device, does its part, reports in shared
 * memory, waits for uio_finish(), and exits as its role says.
 *
 * A case is a row of a table, or a list of steps. The first step that fails decides its verdict:
 * the steps below, from uio_expect() to uio_recovered(), do nothing once there is one, and return
 * uio_ok(). So a case needs no branch after each step, and undoes at its end what must be undone.
 *
 * Cases and roles come in tables. A file adds its own with UIO_REGISTER_CASES() and
 * UIO_REGISTER_ROLES(), so that a patch that changes the bus driver can bring its cases as one
 * more file.
 */

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include <rte_bus_pci.h>
#include <rte_common.h>
#include <rte_pci.h>
#include <bus_pci_driver.h>

#include "nvme_ctrl.h"

/** Prefix of the environment variables that the test reads. */
#define UIO_ENV "PCI_UIO_SECONDARY_"
/** Set in a secondary: "role,slot,device,shared memory". */
#define UIO_ENV_ROLE UIO_ENV "ROLE"
/** Row of do_recursive_call() in test.c. */
#define UIO_RECURSIVE_ACTION "run_pci_uio_secondary"
/** Secondaries that live at the same time. */
#define UIO_SLOTS 8
#define UIO_DEVICES_MAX 8

/** Settings, from the environment. */
struct uio_settings {
	const char *cases;    /**< comma-separated parts of names or claims, NULL for all */
	uint32_t repeat;      /**< secondaries in the repeat case */
	uint32_t time_scale;  /**< factor on all deadlines */
	uint32_t undefined;   /**< 1: doorbells may be written without a defined result */
};
extern struct uio_settings uio_settings;

/** Deadline in @p ms, scaled for slow machines. */
static inline uint64_t
uio_deadline(uint32_t ms)
{
	return nvme_deadline(ms * uio_settings.time_scale);
}

/** Queue pairs: the one of the traffic, and those that a case or uio_check() creates. */
#define UIO_QID_TRAFFIC 1
#define UIO_QID_A 2
#define UIO_QID_B 3

/** Reads of the traffic that are in flight at a time, each of a place on the drive. */
#define UIO_DEPTH 16
/** A drive whose queues have no room for so many is tested without I/O. */
#define UIO_DEPTH_MIN 8
/** One more place, for single reads and for secondaries. */
#define UIO_PLACE_FIXED UIO_DEPTH
#define UIO_PLACES (UIO_DEPTH + 1)
/** Buffers: of each place, what each must contain, and of secondaries by their queue. */
#define UIO_BUF_DATA 1
#define UIO_BUF_EXPECTED (UIO_BUF_DATA + UIO_PLACES)
#define UIO_BUF_SECONDARY (UIO_BUF_EXPECTED + UIO_PLACES)

/** How far a secondary is. Later states include the earlier ones, but for the last. */
enum uio_state {
	UIO_STATE_NONE,
	UIO_STATE_STARTED,   /**< EAL is up, nothing attached yet */
	UIO_STATE_ATTACHING, /**< BARs are mapped, the probe has not returned */
	UIO_STATE_DONE,      /**< attached, and the role did its work */
	UIO_STATE_NOT_ATTACHED, /**< the probe is over, without the device */
};

/** One secondary, in shared memory. */
struct uio_peer {
	volatile uint32_t state;   /**< enum uio_state, written by the secondary */
	volatile uint32_t finish;  /**< written by the primary: end now */
	volatile uint32_t step;    /**< written by the primary: go on with the next part */
	volatile uint32_t reads;   /**< reads done by a role that does I/O */
	uint32_t arg;              /**< of the role, written by the primary before it starts */
	uint32_t attach_us;        /**< duration of the attach */
	int32_t result[4];         /**< of the role */
	int32_t uio_fds;           /**< fds on /dev/uio* after the attach */
	int32_t device_fds;        /**< fds on files of the device in sysfs */
	int32_t device_maps;       /**< mappings of its BARs */
	int32_t device_bars;       /**< BARs that have an address */
	int32_t probe_errno;       /**< rte_errno after rte_bus_probe() */
	char uio_file[256];        /**< first of the fds on /dev/uio* */
	char what[256];            /**< an error of the role */
	uint64_t view[1024];       /**< of a role that reports more */
};

/** Memory that this process and all that it starts share, those of other primaries as well. */
struct uio_shared {
	void *bar_addr;            /**< BAR that a secondary must map at the same address */
	uint64_t bar_len;
	uint32_t nsid;             /**< for roles that do I/O */
	uint32_t block_size;
	uint64_t lba;              /**< place that they read, UIO_PLACE_FIXED */
	struct uio_peer peers[UIO_SLOTS];
};
extern struct uio_shared *uio_shared;

/** Commands that are always in flight while secondaries attach and end: pci_uio_health.c */
struct uio_traffic {
	bool running;
	bool placed;               /**< the places are chosen */
	uint16_t depth;
	uint16_t in_flight;
	struct nvme_qpair qp;
	uint64_t lba[UIO_PLACES];
	uint32_t reads;            /**< completed, with the right data */
	uint64_t deadline;         /**< of the next completion */
	uint64_t look_at_status;
	char error[256];           /**< first failure since the last recovery */
};

/** A device under test, in the primary. */
struct uio_dev {
	struct rte_pci_device *pci;
	char name[PCI_PRI_STR_SIZE + 1];
	char uio_path[64];         /**< /dev/uioX */
	uint16_t command_found;    /**< COMMAND before the test touched it */
	bool is_nvme;              /**< a controller that must be left disabled */
	bool emulated;             /**< undefined doorbell writes have a known result */
	bool mapped;
	bool works;                /**< made ready, and neither stopped nor unmapped since */
	bool dead;                 /**< could not be recovered: no further tries */
	bool keeps_bus_master;     /**< this kernel does not clear the bit: exits show nothing */
	uint32_t settle_ms;        /**< no register may be read for so long after CC.EN 0 */
	char unsuitable[256];      /**< why NVMe cases are skipped, or empty */
	struct nvme_ctrl ctrl;
	struct uio_traffic traffic;
};

/* Cases and roles. */

/** Arguments of uio_spawn() beside the role; zeroes are good defaults. */
struct uio_spawn_args {
	const char *allow;     /**< device to allow instead */
	const char *option;    /**< one more EAL option */
	const char *prefix;    /**< be a secondary of the primary with this file prefix */
	uint32_t arg;          /**< for the role */
};

#define UIO_CASE_NVME (1u << 0)    /**< needs a drive with which I/O is possible */
#define UIO_CASE_EXIT (1u << 1)    /**< shows nothing where the kernel keeps bus master */
#define UIO_CASE_REPEAT (1u << 2)  /**< takes the longer, the higher uio_settings.repeat is */
#define UIO_CASE_FAILS (1u << 3)   /**< the secondary must not get the device */
#define UIO_CASE_KILL (1u << 4)    /**< the secondary gets the signal that ends it */
#define UIO_CASE_NO_OPEN (1u << 5) /**< nothing may open /dev/uioX while the secondary lives */
#define UIO_CASE_END (1u << 6)     /**< differs in how a process ends: a drive is enough */
#define UIO_CASE_BESIDE (1u << 7)  /**< beside another secondary, which ends after it */
#define UIO_CASE_PORT (1u << 8)    /**< maps a BAR as an I/O port, which opens /dev/uioX on x86 */

/**
 * A case: run() does it, or it is a row that says what one secondary does. uio_check() follows,
 * unless run() has unmapped the device, which is mapped again then.
 */
struct uio_case {
	const char *name;
	const char *claim;
	uint32_t flags;
	void (*run)(struct uio_dev *dev);
	uint16_t queues;           /**< I/O queue pairs that it needs */
	/* Without run(), a secondary attaches and ends, then comes check(). */
	const char *role;
	struct uio_spawn_args args;
	int end;                   /**< exit code, or negative signal number */
	void (*check)(struct uio_dev *dev); /**< of uio_shared->peers[0] */
};
/** The case that runs: run() may find its parameters there. */
extern const struct uio_case *uio_current;

/** What an attach goes through. */
enum uio_attach {
	UIO_ATTACH_PROBE = 0, /**< rte_bus_probe() after rte_eal_init() */
	UIO_ATTACH_INIT,      /**< rte_eal_init(), as with a driver that is linked in */
	UIO_ATTACH_HOTPLUG,   /**< rte_eal_hotplug_add(), which asks the primary */
	UIO_ATTACH_NONE,
};

/** What a secondary does before and after attaching. */
struct uio_role {
	const char *name;
	const char *primary;       /**< not a secondary: a primary with this EAL option */
	enum uio_attach attach;
	/** Sets UIO_STATE_STARTED before it waits for something. */
	int (*before)(struct uio_peer *peer, const char *device);
	int (*work)(struct uio_peer *peer, struct rte_pci_device *pci);
	void (*end)(int status);   /**< instead of a return from main */
	bool kill_in_probe;
	bool leave_unmapped;
	bool all_devices;          /**< attach all that is allowed; result[0] counts the others */
};

struct uio_case_table {
	TAILQ_ENTRY(uio_case_table) next;
	unsigned int order;
	const struct uio_case *cases;
	unsigned int cases_nb;
	const struct uio_role *roles;
	unsigned int roles_nb;
};
void uio_register_table(struct uio_case_table *table);
/** The role of a name, or NULL. */
const struct uio_role *uio_find_role(const char *name);

/** Add cases to the test; those of the lowest order run first. */
#define UIO_REGISTER_CASES(position, table) \
RTE_INIT(uio_register_##table) \
{ \
	static struct uio_case_table entry = { \
		.order = position, .cases = table, .cases_nb = RTE_DIM(table), \
	}; \
	uio_register_table(&entry); \
}

/** Add roles. */
#define UIO_REGISTER_ROLES(table) \
RTE_INIT(uio_register_##table) \
{ \
	static struct uio_case_table entry = { .roles = table, .roles_nb = RTE_DIM(table) }; \
	uio_register_table(&entry); \
}

/* Verdict of the current case: test_pci_uio_secondary.c */

/** There is no verdict yet: go on. */
bool uio_ok(void);
/** Fail unless @p holds; @p what has the form "<what is expected>, got <what was seen>". */
__rte_format_printf(2, 3)
bool uio_expect(bool holds, const char *what, ...);
/** Skip, for a reason that says what would let the case run. */
__rte_format_printf(1, 2)
bool uio_skip(const char *reason, ...);
/** A signal that asks the test to end, or 0. */
extern volatile sig_atomic_t uio_signal_number;

/* Secondaries: pci_uio_process.c */

/** Start a secondary in a slot. */
bool uio_spawn(struct uio_dev *dev, unsigned int slot, const char *role,
		const struct uio_spawn_args *args);
/** Wait for a state, with traffic. */
bool uio_wait_state(unsigned int slot, enum uio_state state);
/** uio_spawn() and uio_wait_state(). */
bool uio_start(struct uio_dev *dev, unsigned int slot, const char *role,
		const struct uio_spawn_args *args, enum uio_state state);
/** Fail if anything has opened /dev/uioX since a secondary was started. */
bool uio_expect_no_open(unsigned int slot);
/**
 * Wait until a secondary has ended, with traffic; fails the case if it ends otherwise, or if too
 * few reads have completed while it lived.
 * @param end
 *   Exit code, or negative signal number.
 */
bool uio_wait_end(unsigned int slot, int end);
/** Let a secondary end, and wait for that. */
bool uio_end(unsigned int slot, int end);
/** Start, wait until the role has done its work, let it end with exit code 0. */
bool uio_run_secondary(struct uio_dev *dev, unsigned int slot, const char *role);
/** Fail if a secondary without the device still has an fd, a mapping or an address of it. */
bool uio_expect_nothing_left(unsigned int slot);
/** Wait until a secondary has a file of an fnmatch(3) pattern open, or has none. */
bool uio_wait_files(unsigned int slot, const char *pattern, bool some);
/** Wait for a line, of an fnmatch(3) pattern, of a secondary; fails if it ends without. */
bool uio_expect_output(unsigned int slot, const char *pattern);

/* These work with any verdict. */

/** Make the shared memory. */
bool uio_shared_reserve(void);
void uio_shared_free(void);
/** Send a signal to a secondary that has not ended; a signal handler may call this. */
void uio_kill(unsigned int slot, int sig);
/** Wait with traffic; false at the deadline, or when a signal asks the test to end. */
bool uio_pause(uint64_t deadline);
pid_t uio_pid(unsigned int slot);
/** End the secondaries that still run; print the output of those that failed the case. */
void uio_reap(void);

/* In a secondary. */

int uio_role_main(void);
/** Set the state, after everything that was written before. */
void uio_set_state(enum uio_state state);
/** Wait until the primary sets a flag of this secondary; false if it wants it to end instead. */
bool uio_wait_primary(const volatile uint32_t *flag);

/** Wait until a secondary in the role "reads" has done some more: pci_uio_traffic.c */
bool uio_expect_reads(unsigned int slot);

/* What a healthy device is: pci_uio_health.c */

/** Make the device ready for a case, recovering it if need be. */
bool uio_ready(struct uio_dev *dev);
/** Bus master set, no fatal status, commands and reads complete, on old and new queues. */
bool uio_check(struct uio_dev *dev);
/** Bus master set, as seen through sysfs and through the bus. */
bool uio_check_bus_master(struct uio_dev *dev);
/** Bus master set or clear, through sysfs: this process need not have the device. */
bool uio_expect_bus_master(struct uio_dev *dev, bool set, const char *when);
/** Stop the traffic and the controller. */
bool uio_stop(struct uio_dev *dev);
/** uio_stop(), and unmap the device: this process does not have it any more. */
bool uio_unmap(struct uio_dev *dev);
/** Fail if @p ret, of a verb of nvme_ctrl.h, is not 0; a recovery follows. */
bool uio_expect_io(struct uio_dev *dev, int ret, const char *expected);
/** Recover, as a step of a case. */
bool uio_recovered(struct uio_dev *dev);

/* These work with any verdict. */

/** Map the device again; the next uio_ready() makes it work. */
bool uio_remap(struct uio_dev *dev);
/** The recovery that an application can do: bus master, controller reset, new queues. */
int uio_recover(struct uio_dev *dev);
/** 0 when nothing needs a recovery, or dev->ctrl.error says what does. */
int uio_look(struct uio_dev *dev);
/** The device is mapped in this process, or not any more. */
void uio_set_mapped(struct uio_dev *dev, bool mapped);
/** Take completions of the traffic of all devices, check the data, send the next commands. */
void uio_traffic_poll(void);
/** Wait until nothing is in flight, and send nothing more. */
int uio_traffic_stop(struct uio_dev *dev);
/** Leave the device as it was found, or fail the case and say how to repair. */
bool uio_release(struct uio_dev *dev);

/* Devices: pci_uio_device.c */

extern struct uio_dev uio_devices[UIO_DEVICES_MAX];
extern unsigned int uio_devices_nb;
#define UIO_FOREACH_DEVICE(dev) \
	for (dev = uio_devices; dev < uio_devices + uio_devices_nb; dev++)

/** Answer of the driver's remove(), in this process: -EBUSY in the primary. */
extern int uio_remove_answer;
/** Register the driver; @p accept is asked about each device, its BARs mapped or not. */
void uio_driver_register(bool (*accept)(struct rte_pci_device *pci), bool map);
void uio_driver_unregister(void);
/** Find the devices to test and attach them; skips the test when there is none. */
bool uio_devices_attach(void);
/**
 * Stop a controller that another process left enabled, before bus master is set: its queues are in
 * memory that is used for something else now. dev->ctrl is initialized anew.
 * Works with any verdict; false if it does not stop.
 */
bool uio_stop_stale(struct uio_dev *dev);
/** Open /dev/uioX and close it: the kernel clears bus master. */
bool uio_open_and_close(struct uio_dev *dev);
/** Path of a file of a device in sysfs. */
void uio_sysfs_path(const char *device, const char *file, char *path, size_t size);
/** First line of a file of a device in sysfs; false, and an empty line, if there is none. */
bool uio_sysfs_read(const char *device, const char *file, char *line, size_t size);
/** Reset the device through sysfs; -1 when that is not possible. */
int uio_sysfs_reset(const char *device);
/**
 * fds on files.
 * @param process
 *   Name in /proc, or a glob(7) pattern.
 * @param file
 *   Path, or a pattern in which * also matches a slash.
 * @param[out] what
 *   The first of them.
 */
int uio_count_fds(const char *process, const char *file, char *what, size_t size);
/** Mappings of this process of files whose path contains @p part. */
int uio_count_maps(const char *part);
/** Memory BARs of the device that have an address in this process. */
int uio_count_bars(const struct rte_pci_device *pci);
/** BAR that rte_pci_ioport_map() takes; a memory BAR as well, so that any device will do. */
int uio_first_bar(const struct rte_pci_device *pci);
/** COMMAND as read through sysfs, -1 if that fails. */
int uio_command_sysfs(const char *device);
/** Put the bus master and INTx disable bits back as found, through sysfs. */
int uio_command_restore(struct uio_dev *dev);

#endif /* PCI_UIO_TEST_H */
