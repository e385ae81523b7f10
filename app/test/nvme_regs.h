/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef NVME_REGS_H
#define NVME_REGS_H

/**
 * @file
 * NVM Express: registers and wire structures that a polled test driver needs.
 *
 * Names are those of the NVM Express Base Specification; section numbers are of revision 1.4.
 * Fields come as <REG>_<FIELD>_SHIFT and _MASK, the mask being that of the shifted down value:
 * see NVME_GET() and NVME_SET(). Everything on the wire is little endian.
 * The arithmetic of queues is at the end, on values in the byte order of the CPU.
 * This file needs no DPDK header, so that it can be tested without EAL.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Value of a field in a register or a dword. */
#define NVME_GET(reg, field) (((reg) >> field##_SHIFT) & field##_MASK)
/** Field value, masked and shifted into its place. */
#define NVME_SET(value, field) (((uint32_t)(value) & field##_MASK) << field##_SHIFT)

/** Versions in NVME_REG_VS. */
#define NVME_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor) << 8)
/** PCI class code of an NVM Express I/O controller: mass storage, NVM, NVMe (2.1.5). */
#define NVME_PCI_CLASS 0x010802
/** Namespace ID that means all namespaces, or the controller (6.1.2). */
#define NVME_NSID_ALL UINT32_MAX
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

/** Controller Capabilities (3.1.1). */
enum nvme_cap {
	NVME_CAP_MQES_SHIFT = 0,    /**< Maximum Queue Entries Supported, 0's based */
	NVME_CAP_MQES_MASK = 0xffff,
	NVME_CAP_TO_SHIFT = 24,     /**< Timeout, in units of 500 ms */
	NVME_CAP_TO_MASK = 0xff,
	NVME_CAP_DSTRD_SHIFT = 32,  /**< Doorbell Stride: 4 << DSTRD bytes */
	NVME_CAP_DSTRD_MASK = 0xf,
	NVME_CAP_CSS_SHIFT = 37,    /**< Command Sets Supported */
	NVME_CAP_CSS_MASK = 0xff,
	NVME_CAP_CSS_NVM = 1 << 0,  /**< NVM command set */
	NVME_CAP_MPSMIN_SHIFT = 48, /**< Memory Page Size Minimum: 2^(12 + MPSMIN) bytes */
	NVME_CAP_MPSMIN_MASK = 0xf,
	NVME_CAP_CRMS_SHIFT = 59,   /**< Controller Ready Modes Supported (2.0) */
	NVME_CAP_CRMS_MASK = 0x3,
};

/** Controller Configuration (3.1.5). */
enum nvme_cc {
	NVME_CC_EN_SHIFT = 0,      /**< Enable */
	NVME_CC_EN_MASK = 0x1,
	NVME_CC_MPS_SHIFT = 7,     /**< Memory Page Size: 2^(12 + MPS) bytes */
	NVME_CC_MPS_MASK = 0xf,
	NVME_CC_SHN_SHIFT = 14,    /**< Shutdown Notification */
	NVME_CC_SHN_MASK = 0x3,
	NVME_CC_SHN_NORMAL = 1,
	NVME_CC_IOSQES_SHIFT = 16, /**< I/O Submission Queue Entry Size: 2^IOSQES bytes */
	NVME_CC_IOSQES_MASK = 0xf,
	NVME_CC_IOCQES_SHIFT = 20, /**< I/O Completion Queue Entry Size: 2^IOCQES bytes */
	NVME_CC_IOCQES_MASK = 0xf,
};

/** Controller Status (3.1.6). */
enum nvme_csts {
	NVME_CSTS_RDY_SHIFT = 0,  /**< Ready */
	NVME_CSTS_RDY_MASK = 0x1,
	NVME_CSTS_CFS_SHIFT = 1,  /**< Controller Fatal Status */
	NVME_CSTS_CFS_MASK = 0x1,
	NVME_CSTS_SHST_SHIFT = 2, /**< Shutdown Status */
	NVME_CSTS_SHST_MASK = 0x3,
	NVME_CSTS_SHST_COMPLETE = 2,
};

/** Admin Queue Attributes (3.1.8); sizes are 0's based. */
enum nvme_aqa {
	NVME_AQA_ASQS_SHIFT = 0,  /**< Admin Submission Queue Size */
	NVME_AQA_ASQS_MASK = 0xfff,
	NVME_AQA_ACQS_SHIFT = 16, /**< Admin Completion Queue Size */
	NVME_AQA_ACQS_MASK = 0xfff,
};

/** Admin command opcodes (5). */
enum nvme_admin_opcode {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_ASYNC_EVENT = 0x0c,
};

/** NVM command set opcodes (6). */
enum nvme_nvm_opcode {
	NVME_NVM_WRITE = 0x01,
	NVME_NVM_READ = 0x02,
};

/** Controller or Namespace Structure of Identify (5.15.1). */
enum nvme_cns {
	NVME_CNS_NAMESPACE = 0x00,
	NVME_CNS_CONTROLLER = 0x01,
	NVME_CNS_ACTIVE_NAMESPACES = 0x02,
};

/** Feature identifiers of Set Features (5.21.1). */
enum nvme_feature {
	NVME_FEAT_NUMBER_OF_QUEUES = 0x07,
};

/** Dwords 10 and 11 of Create and Delete I/O Queue (5.3, 5.4); sizes are 0's based. */
enum nvme_queue_cdw {
	NVME_CDW10_QID_SHIFT = 0,
	NVME_CDW10_QID_MASK = 0xffff,
	NVME_CDW10_QSIZE_SHIFT = 16,
	NVME_CDW10_QSIZE_MASK = 0xffff,
	NVME_CDW11_PC_SHIFT = 0,    /**< Physically Contiguous */
	NVME_CDW11_PC_MASK = 0x1,
	NVME_CDW11_CQID_SHIFT = 16, /**< of Create I/O Submission Queue */
	NVME_CDW11_CQID_MASK = 0xffff,
};

/** Dword 10 of Get Log Page (5.14). */
enum nvme_log_cdw10 {
	NVME_LOG_LID_SHIFT = 0,    /**< Log Page Identifier */
	NVME_LOG_LID_MASK = 0xff,
	NVME_LOG_NUMDL_SHIFT = 16, /**< Number of Dwords, lower half, 0's based */
	NVME_LOG_NUMDL_MASK = 0xffff,
};

/** Log Page Identifiers (5.14.1). */
enum nvme_lid {
	NVME_LID_ERROR_INFORMATION = 0x01,
};

/** Dword 0 of the completion of an Asynchronous Event Request (5.2.1). */
enum nvme_aer_dw0 {
	NVME_AER_TYPE_SHIFT = 0,  /**< Asynchronous Event Type */
	NVME_AER_TYPE_MASK = 0x7,
	NVME_AER_INFO_SHIFT = 8,  /**< Asynchronous Event Information */
	NVME_AER_INFO_MASK = 0xff,
	NVME_AER_LID_SHIFT = 16,  /**< log page that tells more, and unmasks the type */
	NVME_AER_LID_MASK = 0xff,
};

/** Asynchronous Event Type (5.2.1). */
enum nvme_aer_type {
	NVME_AER_TYPE_ERROR = 0,
};

/** Asynchronous Event Information of the type Error Status (5.2.1). */
enum nvme_aer_error_info {
	NVME_AER_INFO_INVALID_DB_REGISTER = 0x00,
	NVME_AER_INFO_INVALID_DB_VALUE = 0x01,
};

/** Dword 3 of a completion (4.6). */
enum nvme_cqe_dw3 {
	NVME_CQE_CID_SHIFT = 0,   /**< Command Identifier */
	NVME_CQE_CID_MASK = 0xffff,
	NVME_CQE_P_SHIFT = 16,    /**< Phase Tag */
	NVME_CQE_P_MASK = 0x1,
	NVME_CQE_SC_SHIFT = 17,   /**< Status Code */
	NVME_CQE_SC_MASK = 0xff,
	NVME_CQE_SCT_SHIFT = 25,  /**< Status Code Type */
	NVME_CQE_SCT_MASK = 0x7,
};

/** Submission queue entry (4.2). */
struct nvme_sqe {
	uint8_t opc;     /**< Opcode */
	uint8_t flags;   /**< Fused Operation 1:0, PRP or SGL 7:6; 0 is neither fused nor SGL */
	uint16_t cid;    /**< Command Identifier */
	uint32_t nsid;   /**< Namespace Identifier */
	uint32_t cdw2;
	uint32_t cdw3;
	uint64_t mptr;   /**< Metadata Pointer */
	uint64_t prp1;   /**< first page of data */
	uint64_t prp2;   /**< second page, or a PRP list when there are more than two */
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
	uint16_t sqid;   /**< SQ Identifier */
	uint32_t dw3;    /**< CID, phase and status: enum nvme_cqe_dw3 */
};
static_assert(sizeof(struct nvme_cqe) == 16, "a completion queue entry is 16 bytes");

/** Identify Controller data (5.15.2.2), the fields that the test looks at. */
struct nvme_id_ctrl {
	uint16_t vid;
	uint16_t ssvid;
	char sn[20];       /**< Serial Number, padded with spaces */
	char mn[40];       /**< Model Number, padded with spaces */
	char fr[8];
	uint8_t rsvd72[5];
	uint8_t rsvd77[11];
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
static_assert(sizeof(struct nvme_lbaf) == 4, "an LBA format is 4 bytes");

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

/** Index of the LBA format in nvme_id_ns.flbas. */
static inline uint8_t
nvme_flbas_index(uint8_t flbas)
{
	return (flbas & 0xf) | (flbas >> 1 & 0x30);
}

/** Bytes of an Error Information log entry (5.14.1.1). */
#define NVME_ERROR_ENTRY_SIZE 64

/** The two kinds of doorbell that a queue pair has. */
enum nvme_doorbell {
	NVME_DB_SQ_TAIL = 0,
	NVME_DB_CQ_HEAD = 1,
};

/** Index after @p index in a queue of @p size entries. */
static inline uint16_t
nvme_index_next(uint16_t index, uint16_t size)
{
	return index + 1u < size ? index + 1u : 0;
}

/**
 * Whether a submission queue can take no more.
 * One entry always stays unused, or a full queue would look like an empty one (4.1.2).
 */
static inline bool
nvme_sq_is_full(uint16_t head, uint16_t tail, uint16_t size)
{
	return nvme_index_next(tail, size) == head;
}

/**
 * Phase that a completion must carry to be new at @p head, after the host moved there (4.6).
 * The controller inverts the phase each time it passes the end of the queue.
 */
static inline uint8_t
nvme_phase_next(uint16_t head, uint8_t phase)
{
	return head == 0 ? !phase : phase;
}

/** Whether dword 3 of the completion at the head belongs to the current pass. */
static inline bool
nvme_cqe_is_new(uint32_t dw3, uint8_t phase)
{
	return NVME_GET(dw3, NVME_CQE_P) == phase;
}

/** Offset of a doorbell in BAR 0, for a doorbell stride as in CAP.DSTRD (3.1.24, 3.1.25). */
static inline uint32_t
nvme_doorbell_offset(uint16_t qid, enum nvme_doorbell which, uint8_t dstrd)
{
	return NVME_REG_DBS + ((2 * (uint32_t)qid + which) << (2 + dstrd));
}

/** Status Code Type and Status Code of a completion, as one number: type in the high byte. */
static inline uint16_t
nvme_cqe_status(uint32_t dw3)
{
	return (NVME_GET(dw3, NVME_CQE_SCT) << 8) | NVME_GET(dw3, NVME_CQE_SC);
}

/**
 * Longest time that the controller may take to become ready or not ready, in ms (3.1.1).
 * @param crto
 *   Register CRTO, or 0 where CAP.CRMS says that there is none.
 */
static inline uint32_t
nvme_ready_timeout_ms(uint64_t cap, uint32_t crto)
{
	const uint32_t to = NVME_GET(cap, NVME_CAP_TO), crwmt = crto & 0xffff;

	/* One unit more than announced: 0 is a legal value, and it is rounded down. */
	return ((crwmt > to ? crwmt : to) + 1) * 500;
}

/** How an Asynchronous Event Request completed. */
struct nvme_event {
	uint8_t type;
	uint8_t info;
	uint8_t lid;      /**< log page to read, which also lets the next event of this type come */
	uint16_t status;  /**< as from nvme_cqe_status(); when not 0, there is no event */
};

/** Event in dwords 0 and 3 of a completion (5.2.1). */
static inline struct nvme_event
nvme_event_decode(uint32_t dw0, uint32_t dw3)
{
	struct nvme_event event = {
		.type = NVME_GET(dw0, NVME_AER_TYPE),
		.info = NVME_GET(dw0, NVME_AER_INFO),
		.lid = NVME_GET(dw0, NVME_AER_LID),
		.status = nvme_cqe_status(dw3),
	};

	return event;
}

#endif /* NVME_REGS_H */
