/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef NVME_QUEUE_H
#define NVME_QUEUE_H

/**
 * @file
 * The arithmetic of NVMe queues: no state, no device, no EAL.
 *
 * Arguments are in the byte order of the CPU.
 */

#include <stdbool.h>
#include <stdint.h>

#include "nvme_regs.h"

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

/** What nvme_cqe_status() gives for this type and code. */
#define NVME_STATUS(sct, sc) ((uint16_t)((sct) << 8 | (sc)))

/** Longest time that the controller may take to become ready or not ready, in ms (3.1.1). */
static inline uint32_t
nvme_ready_timeout_ms(uint64_t cap)
{
	/* One unit more than announced: 0 is a legal value, and it is rounded down. */
	return ((uint32_t)NVME_GET(cap, NVME_CAP_TO) + 1) * 500;
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

#endif /* NVME_QUEUE_H */
