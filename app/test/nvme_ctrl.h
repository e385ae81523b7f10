/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef NVME_CTRL_H
#define NVME_CTRL_H

/**
 * @file
 * A polled NVMe controller as small verbs, so that a test may break one of them on purpose.
 *
 * Not a driver: one namespace, one thread, no retry. Queues and buffers are memzones; IOVA must be
 * physical addresses. A secondary process finds the memory of a queue pair by its memzone and
 * rings through its own mapping of BAR 0.
 *
 * Each verb returns 0 or a negative errno. When it fails, nvme_ctrl.error says on which device,
 * doing what, and why. No verb waits without a deadline, and none writes to a controller whose
 * registers read as ones.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_memzone.h>

#include "nvme_regs.h"

/** Entries of each queue that the verbs make, unless the controller allows fewer. */
#define NVME_QUEUE_SIZE 32
/** Bytes of a data buffer; also of one read or write. */
#define NVME_BUF_SIZE 4096
/** Command identifier of the Asynchronous Event Request; those of other commands are lower. */
#define NVME_AER_CID 0xff00

/** Memory that the controller can reach. */
struct nvme_mem {
	const struct rte_memzone *mz;
	void *addr;
	rte_iova_t iova;
};

/** A submission queue and its completion queue. */
struct nvme_qpair {
	uint16_t qid;               /**< 0 is the admin queue pair */
	uint16_t size;              /**< entries of either queue */
	uint16_t sq_tail;           /**< next entry to post */
	uint16_t sq_head;           /**< as the controller said in its last completion */
	uint16_t cq_head;           /**< next completion to look at */
	uint16_t next_cid;
	uint8_t phase;              /**< that a new completion carries */
	volatile struct nvme_sqe *sq;
	volatile struct nvme_cqe *cq;
	volatile void *sq_doorbell;
	volatile void *cq_doorbell;
	struct nvme_mem mem;        /**< holds sq in its first half, cq in its second */
};

/** A controller as one process sees it. */
struct nvme_ctrl {
	const char *name;           /**< address of the device, for messages */
	volatile uint8_t *bar;      /**< BAR 0 as mapped in this process */
	uint64_t cap;
	uint32_t version;           /**< NVME_REG_VS */
	uint32_t page_size;
	uint32_t ready_ms;          /**< deadline of a change of CC.EN */
	uint32_t command_ms;        /**< deadline of a command */
	uint32_t shutdown_ms;       /**< deadline of a shutdown: RTD3E, or ready_ms if longer */
	uint32_t settle_ms;         /**< no register may be read so long after CC.EN 0; a quirk */
	struct nvme_qpair admin;
	struct nvme_mem buf;        /**< data of admin commands */
	uint32_t nsid;              /**< first active namespace */
	uint32_t block_size;
	uint64_t blocks;            /**< of the namespace */
	uint16_t io_queues;         /**< I/O queue pairs that the controller granted */
	char model[41];
	struct nvme_mem owned[16];  /**< what nvme_ctrl_free() gives back */
	bool aer_armed;             /**< an Asynchronous Event Request has not completed */
	bool event_arrived;         /**< event is set, and nvme_aer_poll() has not returned it */
	struct nvme_event event;
	char error[256];
};

/** Time, as of rte_get_timer_cycles(), that is @p ms from now. */
static inline uint64_t
nvme_deadline(uint32_t ms)
{
	return rte_get_timer_cycles() + rte_get_timer_hz() / 1000 * ms;
}

static inline bool
nvme_expired(uint64_t deadline)
{
	return (int64_t)(rte_get_timer_cycles() - deadline) >= 0;
}

/** Set nvme_ctrl.error to "name: " and the message; return @p err. */
__rte_format_printf(3, 4)
int nvme_fail(struct nvme_ctrl *ctrl, int err, const char *format, ...);

/**
 * Look at a controller without changing it.
 * @param time_scale
 *   Factor on all deadlines, for slow machines.
 * @return
 *   -ENODEV: no device answers; -ENOTSUP: no NVM command set, but the controller can be disabled.
 */
int nvme_ctrl_init(struct nvme_ctrl *ctrl, const char *name, void *bar, uint32_t time_scale);
/** Give back the memory of a controller, which must be disabled: it may not reach it any more. */
void nvme_ctrl_free(struct nvme_ctrl *ctrl);

uint32_t nvme_reg_read(const struct nvme_ctrl *ctrl, enum nvme_reg reg);
void nvme_reg_write(struct nvme_ctrl *ctrl, enum nvme_reg reg, uint32_t value);

/** Controller reset (7.3.2): clear CC.EN, wait for CSTS.RDY 0. All I/O queues are gone then. */
int nvme_disable(struct nvme_ctrl *ctrl);
/** Set the admin queues, set CC.EN, wait for CSTS.RDY 1 (7.6.1). The controller is disabled. */
int nvme_enable(struct nvme_ctrl *ctrl);
/**
 * Enable, then identify the controller and its first namespace, and ask for I/O queues.
 * @return
 *   -ENOTSUP: the controller works, but has no namespace with blocks that nvme_io() can read.
 */
int nvme_bring_up(struct nvme_ctrl *ctrl);
/** Notify a shutdown (7.6.2), and disable however that ended. Delete I/O queues before. */
int nvme_shutdown(struct nvme_ctrl *ctrl);

/**
 * Place a command, which has its identifier, in the submission queue.
 * Does not ring: the controller does not know of it yet.
 * @return
 *   0, or -ENOSPC when the queue is full.
 */
int nvme_sq_post(struct nvme_qpair *qp, const struct nvme_sqe *cmd);
/** Tell the controller of all posted commands. */
void nvme_sq_ring(struct nvme_qpair *qp);
/** Next completion, or false. Does not take it: see nvme_cq_advance(). */
bool nvme_cq_peek(struct nvme_qpair *qp, struct nvme_cqe *cqe);
/** Take the completion that was peeked at. The controller does not know of it yet. */
void nvme_cq_advance(struct nvme_qpair *qp);
/** Give the entries of all taken completions back to the controller. */
void nvme_cq_ring(struct nvme_qpair *qp);
/**
 * Write any value to any doorbell, existing or not.
 * The queue pair of that doorbell, if any, does not learn of it.
 */
void nvme_doorbell_write(struct nvme_ctrl *ctrl, uint16_t qid, enum nvme_doorbell which,
		uint32_t value);

/**
 * Run one command to its completion; it gets the next identifier of the queue.
 * An event that arrives meanwhile on the admin queue is kept for nvme_aer_poll().
 * @param what
 *   Name of the command, for messages.
 * @param[out] cqe
 *   The completion, or NULL.
 * @return
 *   0; -EIO: completed with an error status, which is in cqe; -ETIMEDOUT; -ENODEV: the controller
 *   has a fatal status, is not ready or is gone.
 */
int nvme_command(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what,
		struct nvme_sqe *cmd, struct nvme_cqe *cqe);
/** Second half of nvme_command(): wait for the command that has this @p cid. */
int nvme_wait(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what, uint16_t cid,
		struct nvme_cqe *cqe);
/** 0, or -ENODEV when no command can complete: fatal status, not ready, gone. */
int nvme_check_alive(struct nvme_ctrl *ctrl, const struct nvme_qpair *qp, const char *what);

/** Identify; the data are in ctrl->buf. */
int nvme_identify(struct nvme_ctrl *ctrl, enum nvme_cns cns, uint32_t nsid);
/** Get Log Page of @p len bytes; the data are in ctrl->buf, and its events are no longer masked. */
int nvme_get_log(struct nvme_ctrl *ctrl, uint8_t lid, uint32_t len);

/**
 * Set up the host's side of a new queue pair, over memory that nvme_mem_get() finds or makes.
 * In a secondary this is all it takes to use a queue pair that the primary created for it.
 */
int nvme_qpair_init(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint16_t qid);
/**
 * Create an I/O queue pair, polled: without interrupts.
 * Its memzone stays reserved until nvme_ctrl_free() of a controller of the same name, because
 * a controller that was not told to delete the queue may still write to it.
 */
int nvme_qpair_create(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint16_t qid);
int nvme_qpair_delete(struct nvme_ctrl *ctrl, struct nvme_qpair *qp);

/** Memory for data, zeroed; a secondary that asks by the same name and id finds the same. */
int nvme_mem_get(struct nvme_ctrl *ctrl, struct nvme_mem *mem, const char *kind, uint16_t id,
		size_t size);

/** Buffer @p index of those that a longer memory is made of. */
static inline struct nvme_mem
nvme_mem_part(const struct nvme_mem *mem, unsigned int index)
{
	const size_t offset = index * (size_t)NVME_BUF_SIZE;
	struct nvme_mem part = { mem->mz, RTE_PTR_ADD(mem->addr, offset), mem->iova + offset };

	return part;
}

/** Blocks in NVME_BUF_SIZE bytes. */
static inline uint32_t
nvme_io_blocks(const struct nvme_ctrl *ctrl)
{
	return NVME_BUF_SIZE / ctrl->block_size;
}

/** Read or Write of NVME_BUF_SIZE bytes at block @p lba. */
void nvme_io_prepare(const struct nvme_ctrl *ctrl, struct nvme_sqe *cmd, enum nvme_nvm_opcode opc,
		uint64_t lba, const struct nvme_mem *buf);
int nvme_io(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, enum nvme_nvm_opcode opc,
		uint64_t lba, const struct nvme_mem *buf);

/**
 * Arm an Asynchronous Event Request, unless one is, and make sure that the controller has fetched
 * it: an event without a request is lost.
 */
int nvme_aer_arm(struct nvme_ctrl *ctrl);
/** Wait up to @p ms for an event; 0 only looks. -ETIMEDOUT when there is none. */
int nvme_aer_poll(struct nvme_ctrl *ctrl, struct nvme_event *event, uint32_t ms);

#endif /* NVME_CTRL_H */
