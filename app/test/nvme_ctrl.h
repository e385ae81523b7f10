/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef NVME_CTRL_H
#define NVME_CTRL_H

/**
 * @file
 * A polled NVMe controller as small verbs, so that a test may break one of them on purpose.
 *
 * Not a driver: one namespace, one thread, no retry, and no Write. All queues and buffers are in
 * one memzone; IOVA must be physical addresses. A secondary process finds that memzone by the name
 * of the controller, and rings through its own mapping of BAR 0.
 *
 * Each verb returns 0 or a negative errno. When it fails, nvme_ctrl.error says on which device,
 * doing what, and why. No verb waits without a deadline. nvme_disable() and nvme_shutdown() write
 * nothing to a controller whose registers read as ones.
 *
 * Names are those of the NVM Express Base Specification; section numbers are of revision 1.4.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_memzone.h>

/** Value of a field, which is named by its mask. */
#define NVME_GET(reg, mask) (((reg) & (mask)) / ((mask) & -(mask)))
/** A value in the place of a field; what does not fit is cut off. */
#define NVME_SET(value, mask) (((value) * ((mask) & -(mask))) & (mask))

/** PCI class code of an NVM Express I/O controller: mass storage, NVM, NVMe (2.1.5). */
#define NVME_PCI_CLASS 0x010802
/** Versions in NVME_REG_VS. */
#define NVME_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor) << 8)
/** What a register reads as when the device has left the bus. */
#define NVME_REG_GONE UINT32_MAX

/** Register offsets in BAR 0 (3.1). */
enum nvme_reg {
	NVME_REG_CAP = 0x00,   /**< Controller Capabilities, 64 bits */
	NVME_REG_VS = 0x08,    /**< Version */
	NVME_REG_INTMS = 0x0c, /**< Interrupt Mask Set */
	NVME_REG_INTMC = 0x10, /**< Interrupt Mask Clear */
	NVME_REG_CC = 0x14,    /**< Controller Configuration */
	NVME_REG_CSTS = 0x1c,  /**< Controller Status */
	NVME_REG_AQA = 0x24,   /**< Admin Queue Attributes */
	NVME_REG_ASQ = 0x28,   /**< Admin Submission Queue Base Address, 64 bits */
	NVME_REG_ACQ = 0x30,   /**< Admin Completion Queue Base Address, 64 bits */
	NVME_REG_CRTO = 0x68,  /**< Controller Ready Timeouts, where CAP.CRMS is not 0 (2.0) */
	NVME_REG_DBS = 0x1000, /**< first doorbell: Submission Queue 0 Tail */
};

/* Controller Capabilities (3.1.1). */
#define NVME_CAP_MQES UINT64_C(0xffff)          /**< Maximum Queue Entries, 0's based */
#define NVME_CAP_TO UINT64_C(0xff000000)        /**< Timeout, in units of 500 ms */
#define NVME_CAP_DSTRD (UINT64_C(0xf) << 32)    /**< Doorbell Stride: 4 << DSTRD bytes */
#define NVME_CAP_CSS_NVM (UINT64_C(1) << 37)    /**< NVM command set */
#define NVME_CAP_MPSMIN (UINT64_C(0xf) << 48)   /**< Memory Page Size Minimum, 2^(12 + n) */
#define NVME_CAP_CRMS (UINT64_C(0x3) << 59)     /**< Controller Ready Modes Supported (2.0) */

/* Controller Configuration (3.1.5). */
#define NVME_CC_EN 0x1u           /**< Enable */
#define NVME_CC_MPS 0x780u        /**< Memory Page Size: 2^(12 + MPS) bytes */
#define NVME_CC_SHN 0xc000u       /**< Shutdown Notification */
#define NVME_CC_SHN_NORMAL 1u
#define NVME_CC_IOSQES 0xf0000u   /**< I/O Submission Queue Entry Size: 2^IOSQES bytes */
#define NVME_CC_IOCQES 0xf00000u  /**< I/O Completion Queue Entry Size: 2^IOCQES bytes */

/* Controller Status (3.1.6). */
#define NVME_CSTS_RDY 0x1u        /**< Ready */
#define NVME_CSTS_CFS 0x2u        /**< Controller Fatal Status */
#define NVME_CSTS_SHST 0xcu       /**< Shutdown Status */
#define NVME_CSTS_SHST_COMPLETE 2u

/* Two 0's based sizes in a dword: AQA (3.1.8), Set Features, Number of Queues (5.21.1.7). */
#define NVME_SQ_PART 0xffffu
#define NVME_CQ_PART 0xffff0000u

/** Opcodes (5, 6). */
enum nvme_opcode {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_ASYNC_EVENT = 0x0c,
	NVME_NVM_READ = 0x02,
};

/** Controller or Namespace Structure of Identify (5.15.1). */
enum nvme_cns {
	NVME_CNS_NAMESPACE = 0x00,
	NVME_CNS_CONTROLLER = 0x01,
	NVME_CNS_ACTIVE_NAMESPACES = 0x02,
};

/* Create I/O Queue (5.3, 5.4); sizes are 0's based. */
#define NVME_CDW10_QID 0xffffu
#define NVME_CDW10_QSIZE 0xffff0000u
#define NVME_CDW11_PC 0x1u           /**< Physically Contiguous */
#define NVME_CDW11_CQID 0xffff0000u  /**< of Create I/O Submission Queue */

/* Dword 0 of the completion of an Asynchronous Event Request (5.2.1). */
#define NVME_AER_TYPE 0x7u
#define NVME_AER_INFO 0xff00u
#define NVME_AER_LID 0xff0000u       /**< log page that tells more, and unmasks the type */
#define NVME_AER_TYPE_ERROR 0u
#define NVME_AER_INVALID_DB_REGISTER 0x00u
#define NVME_AER_INVALID_DB_VALUE 0x01u
#define NVME_LID_ERROR 0x01u

/* Dword 3 of a completion (4.6). */
#define NVME_CQE_CID 0xffffu         /**< Command Identifier */
#define NVME_CQE_P 0x10000u          /**< Phase Tag */
#define NVME_CQE_STATUS 0xffe0000u   /**< Status Code Type and Status Code; 0: success */

/** Submission queue entry (4.2). */
struct nvme_sqe {
	uint8_t opc;     /**< Opcode */
	uint8_t flags;
	uint16_t cid;    /**< Command Identifier */
	uint32_t nsid;   /**< Namespace Identifier */
	uint32_t cdw2;
	uint32_t cdw3;
	uint64_t mptr;
	uint64_t prp1;   /**< page of data */
	uint64_t prp2;
	uint32_t cdw10;
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
};
static_assert(sizeof(struct nvme_sqe) == 64, "a submission queue entry is 64 bytes");

/** Completion queue entry (4.6). */
struct nvme_cqe {
	uint32_t dw0;    /**< command specific */
	uint32_t dw1;
	uint16_t sqhd;   /**< SQ Head Pointer */
	uint16_t sqid;
	uint32_t dw3;    /**< CID, phase and status */
};
static_assert(sizeof(struct nvme_cqe) == 16, "a completion queue entry is 16 bytes");

/** Identify Controller data (5.15.2.2), the fields that the test looks at. */
struct nvme_id_ctrl {
	uint8_t rsvd0[88];
	uint32_t rtd3e;    /**< RTD3 Entry Latency, in microseconds; bounds a shutdown */
	uint8_t rsvd92[424];
	uint32_t nn;       /**< Number of Namespaces: the highest identifier */
	uint8_t rsvd520[3576];
};
static_assert(sizeof(struct nvme_id_ctrl) == 4096, "Identify data are 4096 bytes");
static_assert(offsetof(struct nvme_id_ctrl, rtd3e) == 88, "RTD3E is at byte 88");
static_assert(offsetof(struct nvme_id_ctrl, nn) == 516, "NN is at byte 516");

/** LBA Format of Identify Namespace (5.15.2.1). */
struct nvme_lbaf {
	uint16_t ms;    /**< Metadata Size, bytes */
	uint8_t lbads;  /**< LBA Data Size, 2^lbads bytes */
	uint8_t rp;
};

/** Identify Namespace data (5.15.2.1), the fields that the test looks at. */
struct nvme_id_ns {
	uint64_t nsze;      /**< Namespace Size, in blocks */
	uint8_t rsvd8[18];
	uint8_t flbas;      /**< Formatted LBA Size: format index 3:0, and its bits 5:4 in 6:5 */
	uint8_t rsvd27[101];
	struct nvme_lbaf lbaf[64];
	uint8_t rsvd384[3712];
};
static_assert(sizeof(struct nvme_id_ns) == 4096, "Identify data are 4096 bytes");
static_assert(offsetof(struct nvme_id_ns, lbaf) == 128, "the LBA formats are at byte 128");

/** The two kinds of doorbell that a queue pair has. */
enum nvme_doorbell {
	NVME_DB_SQ_TAIL = 0,
	NVME_DB_CQ_HEAD = 1,
};

/** Entries of each queue that the verbs make, unless the controller allows fewer. */
#define NVME_QUEUE_SIZE 32
/** I/O queue pairs to ask for, and their highest identifier. */
#define NVME_QUEUES 10
/** Bytes of a data buffer, and of a read. */
#define NVME_BUF_SIZE 4096
/** Data buffers of a controller; the verbs use the first, all others are free to use. */
#define NVME_BUFS 64
/** Command identifier of the Asynchronous Event Request; those of other commands are lower. */
#define NVME_AER_CID 0xff00

/** Memory that the controller can reach. */
struct nvme_mem {
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
	const struct rte_memzone *mz;
	struct nvme_mem buf;        /**< data of admin commands */
	struct nvme_qpair admin;
	struct nvme_cqe cqe;        /**< last completion that nvme_wait() has taken */
	uint32_t nsid;              /**< first active namespace */
	uint32_t block_size;
	uint64_t blocks;            /**< of the namespace */
	uint16_t io_queues;         /**< I/O queue pairs that the controller granted */
	bool aer_armed;             /**< an Asynchronous Event Request has not completed */
	bool event_arrived;         /**< event is set, and nvme_aer_wait() has not returned it */
	struct nvme_cqe event;
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
/** Data buffer @p index, below NVME_BUFS; the same in all processes. A queue pair comes first. */
struct nvme_mem nvme_buf(const struct nvme_ctrl *ctrl, unsigned int index);
/** Give back the memory of a controller, which must be disabled: it may not reach it any more. */
void nvme_ctrl_free(struct nvme_ctrl *ctrl);

uint32_t nvme_reg_read(const struct nvme_ctrl *ctrl, uint32_t reg);
void nvme_reg_write(struct nvme_ctrl *ctrl, uint32_t reg, uint32_t value);
/** Offset of a doorbell in BAR 0 (3.1.24, 3.1.25). The queue need not exist. */
uint32_t nvme_doorbell(const struct nvme_ctrl *ctrl, uint16_t qid, enum nvme_doorbell which);

/** Controller reset (7.3.2): clear CC.EN, wait for CSTS.RDY 0. All I/O queues are gone then. */
int nvme_disable(struct nvme_ctrl *ctrl);
/**
 * Enable (7.6.1), identify the controller and its first namespace, and ask for I/O queues.
 * The controller is disabled before.
 * @return
 *   -ENOTSUP: the controller works, but has no namespace with blocks that nvme_read() can read.
 */
int nvme_bring_up(struct nvme_ctrl *ctrl);
/** Notify a shutdown (7.6.2), and disable however that ended. Delete I/O queues before. */
int nvme_shutdown(struct nvme_ctrl *ctrl);

/**
 * Place a command, which has its identifier, in the submission queue.
 * Does not ring: the controller does not know of it yet. -ENOSPC when the queue is full.
 */
int nvme_sq_post(struct nvme_qpair *qp, const struct nvme_sqe *cmd);
/** Tell the controller of all posted commands. */
void nvme_sq_ring(struct nvme_qpair *qp);
/** Take the next completion, or false. The controller does not know of it yet. */
bool nvme_cq_take(struct nvme_qpair *qp, struct nvme_cqe *cqe);
/** Give the entries of all taken completions back to the controller. */
void nvme_cq_ring(struct nvme_qpair *qp);

/**
 * Wait up to @p ms for the completion of the command with this @p cid; it goes to nvme_ctrl.cqe.
 * @param what
 *   Name of the command, for messages.
 * @return
 *   0; -EIO: completed with an error status; -ETIMEDOUT; -ENODEV: the controller has a fatal
 *   status, is not ready or is gone.
 */
int nvme_wait(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what, uint16_t cid,
		uint32_t ms);
/** 0, or -ENODEV when no command can complete: fatal status, not ready, gone. */
int nvme_check_alive(struct nvme_ctrl *ctrl, const char *what);

/** Identify; the data are in ctrl->buf. */
int nvme_identify(struct nvme_ctrl *ctrl, enum nvme_cns cns, uint32_t nsid);

/**
 * Set up the host's side of a new queue pair. In a secondary this is all it takes to use a queue
 * pair that the primary created for it.
 */
int nvme_qpair_init(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint16_t qid);
/** Create an I/O queue pair, polled: without interrupts. After a failure, reset the controller. */
int nvme_qpair_create(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint16_t qid);
int nvme_qpair_delete(struct nvme_ctrl *ctrl, struct nvme_qpair *qp);

/** Blocks in NVME_BUF_SIZE bytes. */
static inline uint32_t
nvme_io_blocks(const struct nvme_ctrl *ctrl)
{
	return NVME_BUF_SIZE / ctrl->block_size;
}

/** Read NVME_BUF_SIZE bytes from block @p lba on into a buffer. */
struct nvme_sqe nvme_read_prepare(const struct nvme_ctrl *ctrl, uint64_t lba, unsigned int buf);
int nvme_read(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint64_t lba, unsigned int buf);
/** Make a buffer differ from the data of the next Read: one that transfers nothing must fail. */
void nvme_spoil(const struct nvme_ctrl *ctrl, unsigned int buf, unsigned int expected);
/** 0, or -EILSEQ when a Read of @p lba has placed other data in a buffer than those expected. */
int nvme_compare(struct nvme_ctrl *ctrl, uint64_t lba, unsigned int buf, unsigned int expected);
/** nvme_spoil(), nvme_read(), nvme_compare(). */
int nvme_read_expected(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint64_t lba,
		unsigned int buf, unsigned int expected);

/**
 * Arm an Asynchronous Event Request, unless one is, and make sure that the controller has fetched
 * it: an event without a request is lost.
 */
int nvme_aer_arm(struct nvme_ctrl *ctrl);
/**
 * Wait up to @p ms for an event, then read its log page, which lets the next one of its type come.
 * @param[out] dw0
 *   Dword 0 of the event.
 * @return
 *   -ETIMEDOUT when there is none; others as from nvme_wait().
 */
int nvme_aer_wait(struct nvme_ctrl *ctrl, uint32_t ms, uint32_t *dw0);

#endif /* NVME_CTRL_H */
