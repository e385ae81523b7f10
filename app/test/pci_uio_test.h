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
 * memory, and ends when it is told to, in the way that the role is about.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rte_bus_pci.h>
#include <rte_common.h>
#include <bus_pci_driver.h>

#include "nvme_flow.h"

/** Prefix of the environment variables that the test reads. */
#define UIO_ENV "PCI_UIO_SECONDARY_"
/** Set in a secondary: "role,slot,device". */
#define UIO_ENV_ROLE UIO_ENV "ROLE"
/** Row of do_recursive_call() in test.c. */
#define UIO_RECURSIVE_ACTION "run_pci_uio_secondary"
/** Secondaries that live at the same time. */
#define UIO_SLOTS 8
#define UIO_DEVICES_MAX 8
#define UIO_CONFIG_MAX 4096
/** Config register that no PCI Express device acts upon, and all let write: Cache Line Size. */
#define UIO_CONFIG_SCRATCH 0x0c
/** Where a role looks for devices that shall find none. */
#define UIO_NO_SYSFS "/nonexistent"

/** Settings, from the environment. */
struct uio_settings {
	const char *cases;    /**< comma-separated substrings of names or claims, NULL for all */
	uint32_t repeat;      /**< how often a secondary comes and goes */
	uint32_t time_scale;  /**< factor on all deadlines */
	bool write;           /**< the media may be written */
	bool verbose;         /**< show the output of all secondaries */
};
extern struct uio_settings uio_settings;
/** Read the environment; 0, or -1 after having listed what may be set: pci_uio_settings.c */
int uio_settings_read(void);

/** Queue pairs: the flow's, and those that a case or uio_check() makes. */
#define UIO_QID_FLOW 1
#define UIO_QID_A 2
#define UIO_QID_B 3

/** How far a secondary is. Later states include the earlier ones. */
enum uio_state {
	UIO_STATE_NONE,
	UIO_STATE_STARTED,   /**< EAL is up, nothing attached yet */
	UIO_STATE_ATTACHING, /**< BARs are mapped, the probe has not returned */
	UIO_STATE_REFUSED,   /**< the probe is over, without the device */
	UIO_STATE_ATTACHED,
	UIO_STATE_DONE,      /**< the role did its work */
};

/** Capability as found by a walk. */
struct uio_capability {
	uint16_t id;
	uint16_t offset;
};

/** Access to config space that is not a register's: its result, and what it did to the buffer. */
struct uio_odd_access {
	int32_t ret;
	int32_t outside; /**< bytes that changed past the result */
	int32_t wrong;   /**< bytes in the result that differ from a plain read */
};
#define UIO_ODD_MAX 12

/** Config space as one process sees it. */
struct uio_config_view {
	int32_t len;
	uint8_t bytes[UIO_CONFIG_MAX];
	struct uio_capability caps[48];
	struct uio_capability ext_caps[64];
	struct uio_odd_access odd[UIO_ODD_MAX];
};

/** An I/O port that came and went: what the calls returned, fds on /dev/uio* with it and after. */
struct uio_port_view {
	int32_t mapped;
	int32_t fds;
	int32_t unmapped;
	int32_t fds_after;
};

/** One secondary, in shared memory. */
struct uio_peer {
	volatile uint32_t state;   /**< enum uio_state, written by the secondary */
	volatile uint32_t go;      /**< written by the primary: end now */
	volatile uint32_t reads;   /**< reads done by a role that does I/O */
	uint32_t arg;              /**< of the role, written by the primary before it starts */
	int32_t result[4];         /**< of the role */
	int32_t uio_fds;           /**< fds on /dev/uio* after the attach */
	int32_t device_fds;        /**< fds on files of the device in sysfs */
	int32_t device_maps;       /**< mappings of its BARs */
	int32_t device_bars;       /**< BARs that have an address */
	struct uio_config_view config;
	struct uio_port_view port;
	char what[256];            /**< of result, or of the fds: text for messages */
};

/** Shared memory, by its memzone. */
struct uio_shared {
	void *bar_addr;            /**< BAR that a secondary must map at the same address */
	uint64_t bar_len;
	uint32_t nsid;             /**< for roles that do I/O */
	uint32_t block_size;
	uint64_t lba;              /**< that they read */
	struct uio_peer peers[UIO_SLOTS];
};
#define UIO_SHARED_MZ "pci_uio_secondary"

/** A device under test, in the primary. */
struct uio_dev {
	struct rte_pci_device *pci;
	char uio_path[64];         /**< /dev/uioX */
	uint16_t command_found;    /**< COMMAND before the test touched it */
	bool is_nvme;
	bool in_use;               /**< attached, so that it is to be left as it was found */
	bool dead;                 /**< could not be recovered: no further tries */
	/* The NVMe flow: see uio_flow_step(). */
	bool flowing;
	uint64_t next_read;        /**< when the next step is due */
	struct nvme_ctrl ctrl;
	struct nvme_qpair ioq;
	struct nvme_mem data;      /**< what the last read brought */
	struct nvme_mem reference; /**< what it must be equal to */
	struct nvme_mem saved;     /**< what was there before the test wrote */
	uint64_t lba;              /**< that is read all the time */
	uint32_t reads;
	bool written;
	char flow_error[256];      /**< first failure of the flow in this case */
};

/* Verdicts: test_pci_uio_secondary.c */

/** Fail the case, unless it has already; the line is "expected <...>, got <...>". */
__rte_format_printf(2, 3)
int uio_not_ok(const char *expected, const char *got, ...);
/** Skip the case, for a reason that says what would let it run. */
__rte_format_printf(1, 2)
int uio_skip(const char *reason, ...);

/* Devices: pci_uio_device.c */

/** Register the driver; @p accept is asked about each device, its BARs mapped or not. */
void uio_driver_register(bool (*accept)(struct rte_pci_device *pci), bool map);
void uio_driver_unregister(void);
/** Whether the driver would take this device. */
bool uio_driver_matches(const struct rte_pci_device *pci);
/** Path of a file of the device in sysfs. */
void uio_sysfs_path(const struct rte_pci_device *pci, const char *file, char *path, size_t size);
/** /dev/uioX of the device; -1 when it has none. */
int uio_dev_path(const struct rte_pci_device *pci, char *path, size_t size);
/** Process, other than this, that has the file open; 0 when there is none. */
pid_t uio_holder(const char *path);
/** fds of this process on files whose path contains @p part; names the first in @p what. */
int uio_count_fds(const char *part, char *what, size_t size);
/** Mappings of this process of files whose path contains @p part. */
int uio_count_maps(const char *part);
/** Memory BARs of the device that have an address in this process. */
int uio_count_bars(const struct rte_pci_device *pci);
/** Watch for open() of the file, from now on; -1 when that is not possible. */
int uio_watch_opens(const char *path);
/** Times that the file was opened since; ends the watch. -1 when it cannot be told. */
int uio_count_opens(int watch);
/** COMMAND as read through sysfs, -1 if that fails. */
int uio_command_sysfs(const struct rte_pci_device *pci);
/** COMMAND as read through rte_pci_read_config(), -1 if that fails. */
int uio_command_bus(const struct rte_pci_device *pci);
/** Put the bus master and INTx disable bits back as found, through sysfs. */
int uio_command_restore(struct uio_dev *dev);

/* Which devices: pci_uio_select.c */

/** Find the devices to test and attach them; skips the test when there is none. */
int uio_devices_attach(struct uio_dev *devices, unsigned int *nb);

/* What a healthy device is: pci_uio_check.c */

/** Make the device ready for a case, recovering it if need be; fails the case otherwise. */
int uio_ready(struct uio_dev *dev);
/** The recovery that an application can do: bus master, controller reset, new queues. */
int uio_recover(struct uio_dev *dev);
/** Bus master set, no fatal status, commands and reads complete, on old and new queues. */
int uio_check(struct uio_dev *dev);
/** Bus master set, as seen through sysfs and through the bus. */
int uio_check_bus_master(struct uio_dev *dev);
/** Give up the device, to whoever wants it. */
int uio_let_go(struct uio_dev *dev);
/** Take the device again; the next uio_ready() makes it work. */
int uio_take_back(struct uio_dev *dev);
/** Read the blocks of the flow, and check them; on failure dev->ctrl.error tells. */
int uio_flow_read(struct uio_dev *dev, struct nvme_qpair *qp);
/** One uio_flow_read() in passing; nothing after a first failure, which uio_check() tells. */
void uio_flow_step(struct uio_dev *dev);
/** Fail the case for dev->ctrl.error, after which queues are in an unknown state. */
int uio_flow_failed(struct uio_dev *dev, const char *expected);
/** Leave the device as it was found. */
void uio_release(struct uio_dev *dev);

/* Secondaries: pci_uio_spawn.c */

extern struct uio_shared *uio_shared;
/** Get the shared memory, in a primary. */
int uio_shared_reserve(void);
void uio_shared_free(void);

/** What uio_spawn() is told beside the role; zeroes are good defaults. */
struct uio_spawn_args {
	const char *allow;     /**< device to allow instead */
	const char *option;    /**< one more EAL option */
	const char *prefix;    /**< be a primary of this file prefix instead */
	uint32_t arg;          /**< for the role */
};

/** Start a secondary in a slot. */
int uio_spawn(struct uio_dev *dev, unsigned int slot, const char *role,
		const struct uio_spawn_args *args);
/** Wait for a state, the flow going on; fails the case if it does not come. */
int uio_wait_state(struct uio_dev *dev, unsigned int slot, enum uio_state state);
/** Let a secondary end. */
void uio_go(unsigned int slot);
void uio_kill(unsigned int slot, int sig);
/**
 * Wait until a secondary is gone, the flow going on; fails the case if it ends otherwise.
 * @param end
 *   Exit code, or negative signal number.
 */
int uio_wait_end(struct uio_dev *dev, unsigned int slot, int end);
/** Spawn, wait until it is attached, let it end, wait for that. */
int uio_come_and_go(struct uio_dev *dev, const char *role, int end);
/** Whether a line of what a secondary has printed contains all three. */
bool uio_has_said(unsigned int slot, const char *first, const char *second, const char *third);
/** Wait until a child has said that, the flow going on; false when it ends or hangs before. */
bool uio_wait_said(struct uio_dev *dev, unsigned int slot, const char *text);
/** Show what a child has printed when the case is over. */
void uio_blame(unsigned int slot);
pid_t uio_pid(unsigned int slot);
/** Kill and forget who is still there; print what they said if they are to blame. */
void uio_reap(void);

/* pci_uio_exec.c */

/**
 * Run this program again, in a role, with no file of this process but the one for its output.
 * @return
 *   0, or a positive errno
 */
int uio_run_again(pid_t *pid, char *const argv[], char *role, int output);

/* Other primaries: pci_uio_rival.c */

/** Exit code of one that was refused with EBUSY; 0: it had the device, and kept bus master. */
#define UIO_RIVAL_REFUSED 4
/** What they say. */
#define UIO_RIVAL_IS_READY "rival is ready"
#define UIO_RIVAL_HAS "rival has the device"

int uio_rival_main(const char *role, const char *device);

/* In a secondary: pci_uio_roles.c */

int uio_role_main(const char *role);
/** Fill in a view of config space: in either process. */
void uio_config_look(struct rte_pci_device *pci, struct uio_config_view *view);
/** BAR that rte_pci_ioport_map() takes: pci_uio_fd.c */
int uio_first_bar(const struct rte_pci_device *pci);
/** Map and unmap an I/O port: in either process. */
void uio_port_try(struct rte_pci_device *pci, struct uio_port_view *view);

/* Cases: a function for each, in the files named after what they are about. */

int uio_case_bring_up(struct uio_dev *dev);

int uio_case_config_bytes(struct uio_dev *dev);
int uio_case_config_caps(struct uio_dev *dev);
int uio_case_config_ext_caps(struct uio_dev *dev);
int uio_case_config_write(struct uio_dev *dev);
int uio_case_config_odd(struct uio_dev *dev);
int uio_case_fd_none(struct uio_dev *dev);
int uio_case_fd_create_uio_dev(struct uio_dev *dev);
int uio_case_fd_failed_attach(struct uio_dev *dev);
int uio_case_fd_no_config(struct uio_dev *dev);
int uio_case_fd_detach(struct uio_dev *dev);
int uio_case_fd_detach_unmapped(struct uio_dev *dev);

int uio_case_port_secondary(struct uio_dev *dev);
int uio_case_port_primary(struct uio_dev *dev);

int uio_case_claim_refused(struct uio_dev *dev);
int uio_case_claim_killed(struct uio_dev *dev);
int uio_case_claim_no_privilege(struct uio_dev *dev);
int uio_case_claim_again(struct uio_dev *dev);
int uio_case_claim_port(struct uio_dev *dev);
int uio_case_claim_race(struct uio_dev *dev);

int uio_case_exit_return(struct uio_dev *dev);
int uio_case_exit_no_cleanup(struct uio_dev *dev);
int uio_case_exit_at_once(struct uio_dev *dev);
int uio_case_exit_abort(struct uio_dev *dev);
int uio_case_exit_killed_attached(struct uio_dev *dev);
int uio_case_exit_killed_attaching(struct uio_dev *dev);
int uio_case_exit_killed_reading(struct uio_dev *dev);
int uio_case_exit_detach(struct uio_dev *dev);
int uio_case_exit_bar_taken(struct uio_dev *dev);
int uio_case_exit_not_allowed(struct uio_dev *dev);
int uio_case_exit_other_primary(struct uio_dev *dev);
int uio_case_exit_fork(struct uio_dev *dev);
int uio_case_exit_eight(struct uio_dev *dev);
int uio_case_exit_many(struct uio_dev *dev);
int uio_case_owner_cleared(struct uio_dev *dev);

int uio_case_flow_reads(struct uio_dev *dev);
int uio_case_flow_queues(struct uio_dev *dev);
int uio_case_flow_no_queue(struct uio_dev *dev);
int uio_case_flow_sq_tail(struct uio_dev *dev);
int uio_case_flow_cq_head(struct uio_dev *dev);
int uio_case_flow_masked(struct uio_dev *dev);
int uio_case_flow_aer_limit(struct uio_dev *dev);
int uio_case_flow_reset(struct uio_dev *dev);

int uio_case_io_secondary(struct uio_dev *dev);
int uio_case_io_killed(struct uio_dev *dev);
int uio_case_intr_secondary(struct uio_dev *dev);
int uio_case_intr_primary(struct uio_dev *dev);
int uio_case_control(struct uio_dev *dev);

#endif /* PCI_UIO_TEST_H */
