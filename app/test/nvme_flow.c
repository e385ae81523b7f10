/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_io.h>
#include <rte_pause.h>

#include "nvme_flow.h"

/* Least time for a command: an emulated controller shares its CPU with this program. */
#define NVME_COMMAND_MIN_MS 5000

int
nvme_fail(struct nvme_ctrl *ctrl, int err, const char *format, ...)
{
	va_list ap;
	int len;

	len = snprintf(ctrl->error, sizeof(ctrl->error), "%s: ", ctrl->name);
	va_start(ap, format);
	vsnprintf(ctrl->error + len, sizeof(ctrl->error) - len, format, ap);
	va_end(ap);

	return err;
}

uint32_t
nvme_reg_read(const struct nvme_ctrl *ctrl, enum nvme_reg reg)
{
	return rte_le_to_cpu_32(rte_read32(ctrl->bar + reg));
}

void
nvme_reg_write(struct nvme_ctrl *ctrl, enum nvme_reg reg, uint32_t value)
{
	rte_write32(rte_cpu_to_le_32(value), ctrl->bar + reg);
}

static void
nvme_reg_write64(struct nvme_ctrl *ctrl, enum nvme_reg reg, uint64_t value)
{
	/* Two halves: some controllers do not take 64-bit accesses. */
	nvme_reg_write(ctrl, reg, (uint32_t)value);
	rte_write32(rte_cpu_to_le_32(value >> 32), ctrl->bar + reg + 4);
}

int
nvme_mem_get(struct nvme_ctrl *ctrl, struct nvme_mem *mem, const char *kind, uint16_t id,
		size_t size)
{
	char name[RTE_MEMZONE_NAMESIZE];
	bool found;
	size_t i;

	snprintf(name, sizeof(name), "%s_%s_%u", kind, ctrl->name, id);
	mem->mz = rte_memzone_lookup(name);
	found = mem->mz != NULL;
	if (!found && rte_eal_process_type() == RTE_PROC_PRIMARY)
		mem->mz = rte_memzone_reserve_aligned(name, size, SOCKET_ID_ANY,
				RTE_MEMZONE_IOVA_CONTIG, ctrl->page_size);
	if (mem->mz == NULL || mem->mz->len < size)
		return nvme_fail(ctrl, -ENOMEM, "memzone %s of %zu bytes: %s", name, size,
				mem->mz != NULL ? "is smaller" : rte_strerror(rte_errno));

	mem->addr = mem->mz->addr;
	mem->iova = mem->mz->iova;
	if (found)
		return 0;
	if (mem->iova == RTE_BAD_IOVA) {
		rte_memzone_free(mem->mz);
		return nvme_fail(ctrl, -EPERM, "memzone %s: physical address not known", name);
	}
	memset(mem->addr, 0, size);
	for (i = 0; i < RTE_DIM(ctrl->owned); i++) {
		if (ctrl->owned[i].mz == NULL) {
			ctrl->owned[i] = *mem;
			return 0;
		}
	}
	rte_memzone_free(mem->mz);
	return nvme_fail(ctrl, -ENOSPC, "memzone %s: too many already", name);
}

void
nvme_ctrl_free(struct nvme_ctrl *ctrl)
{
	size_t i;

	for (i = 0; i < RTE_DIM(ctrl->owned); i++) {
		if (ctrl->owned[i].mz != NULL)
			rte_memzone_free(ctrl->owned[i].mz);
		ctrl->owned[i].mz = NULL;
	}
}

int
nvme_ctrl_init(struct nvme_ctrl *ctrl, const char *name, void *bar, uint32_t time_scale)
{
	memset(ctrl, 0, sizeof(*ctrl));
	ctrl->name = name;
	ctrl->bar = bar;
	if (bar == NULL)
		return nvme_fail(ctrl, -ENODEV, "BAR 0 is not mapped");
	if (nvme_reg_read(ctrl, NVME_REG_CSTS) == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "BAR 0 reads as ones: device gone or asleep");

	ctrl->cap = nvme_reg_read(ctrl, NVME_REG_CAP);
	ctrl->cap |= (uint64_t)rte_le_to_cpu_32(rte_read32(ctrl->bar + NVME_REG_CAP + 4)) << 32;
	ctrl->page_size = 1u << (12 + NVME_GET(ctrl->cap, NVME_CAP_MPSMIN));
	ctrl->timeout_ms = RTE_MAX(nvme_ready_timeout_ms(ctrl->cap),
			(uint32_t)NVME_COMMAND_MIN_MS) * time_scale;
	ctrl->shutdown_ms = ctrl->timeout_ms;
	if ((NVME_GET(ctrl->cap, NVME_CAP_CSS) & NVME_CAP_CSS_NVM) == 0)
		return nvme_fail(ctrl, -ENOTSUP, "no NVM command set: CAP 0x%016" PRIx64,
				ctrl->cap);

	return 0;
}

/* Wait until the bits of mask in CSTS have a value; 'what' ends the sentence "waited for". */
static int
nvme_wait_csts(struct nvme_ctrl *ctrl, uint32_t mask, uint32_t value, bool fatal_ends, uint32_t ms,
		const char *what)
{
	uint64_t deadline = nvme_deadline(ms);
	bool expired;
	uint32_t csts;

	do {
		/* The clock before the register, so that the last look is never too early. */
		expired = nvme_expired(deadline);
		csts = nvme_reg_read(ctrl, NVME_REG_CSTS);
		if (csts == NVME_REG_GONE)
			return nvme_fail(ctrl, -ENODEV, "gone while waiting for %s", what);
		if ((csts & mask) == value)
			return 0;
		if (fatal_ends && NVME_GET(csts, NVME_CSTS_CFS))
			return nvme_fail(ctrl, -ENODEV, "fatal status instead of %s, CSTS 0x%08x",
					what, csts);
		rte_pause();
	} while (!expired);

	return nvme_fail(ctrl, -ETIMEDOUT, "waited %u ms for %s, CSTS 0x%08x", ms, what, csts);
}

int
nvme_disable(struct nvme_ctrl *ctrl)
{
	const uint32_t rdy = NVME_SET(1, NVME_CSTS_RDY);
	uint32_t cc = nvme_reg_read(ctrl, NVME_REG_CC);

	/* CC.EN must not change before RDY follows its last change, unless that will never be. */
	if (cc != NVME_REG_GONE && NVME_GET(cc, NVME_CC_EN))
		nvme_wait_csts(ctrl, rdy, rdy, true, ctrl->timeout_ms, "RDY 1 before disabling");

	nvme_reg_write(ctrl, NVME_REG_CC, cc & ~NVME_SET(1, NVME_CC_EN));
	return nvme_wait_csts(ctrl, rdy, 0, false, ctrl->timeout_ms, "RDY 0 after CC.EN 0");
}

int
nvme_qpair_init(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint16_t qid)
{
	const uint32_t max = NVME_GET(ctrl->cap, NVME_CAP_MQES) + 1;
	const uint8_t dstrd = NVME_GET(ctrl->cap, NVME_CAP_DSTRD);
	int ret;

	memset(qp, 0, sizeof(*qp));
	ret = nvme_mem_get(ctrl, &qp->mem, "nvme_qp", qid, 2 * (size_t)ctrl->page_size);
	if (ret != 0)
		return ret;

	qp->qid = qid;
	qp->size = RTE_MIN(max, (uint32_t)NVME_QUEUE_SIZE);
	/* The controller starts with phase 1 in a completion queue that reads as zeroes. */
	qp->phase = 1;
	qp->sq = qp->mem.addr;
	qp->cq = RTE_PTR_ADD(qp->mem.addr, ctrl->page_size);
	qp->sq_doorbell = ctrl->bar + nvme_doorbell_offset(qid, NVME_DB_SQ_TAIL, dstrd);
	qp->cq_doorbell = ctrl->bar + nvme_doorbell_offset(qid, NVME_DB_CQ_HEAD, dstrd);

	return 0;
}

int
nvme_enable(struct nvme_ctrl *ctrl)
{
	const uint32_t rdy = NVME_SET(1, NVME_CSTS_RDY);
	struct nvme_qpair *qp = &ctrl->admin;
	int ret;

	ret = nvme_qpair_init(ctrl, qp, 0);
	if (ret != 0)
		return ret;
	memset(qp->mem.addr, 0, qp->mem.mz->len);
	ctrl->aers_sent = 0;
	ctrl->events_count = 0;

	/* Completions are polled for: without this mask each would raise INTx. */
	nvme_reg_write(ctrl, NVME_REG_INTMS, UINT32_MAX);
	nvme_reg_write(ctrl, NVME_REG_AQA, NVME_SET(qp->size - 1, NVME_AQA_ASQS) |
			NVME_SET(qp->size - 1, NVME_AQA_ACQS));
	nvme_reg_write64(ctrl, NVME_REG_ASQ, qp->mem.iova);
	nvme_reg_write64(ctrl, NVME_REG_ACQ, qp->mem.iova + ctrl->page_size);
	/* rte_write32() puts the zeroed queues in memory before the controller may look at them. */
	nvme_reg_write(ctrl, NVME_REG_CC, NVME_SET(1, NVME_CC_EN) |
			NVME_SET(NVME_GET(ctrl->cap, NVME_CAP_MPSMIN), NVME_CC_MPS) |
			NVME_SET(6, NVME_CC_IOSQES) | NVME_SET(4, NVME_CC_IOCQES));

	return nvme_wait_csts(ctrl, rdy, rdy, true, ctrl->timeout_ms, "RDY 1 after CC.EN 1");
}

int
nvme_shutdown(struct nvme_ctrl *ctrl)
{
	uint32_t cc = nvme_reg_read(ctrl, NVME_REG_CC);
	int ret;

	cc &= ~NVME_SET(NVME_CC_SHN_MASK, NVME_CC_SHN);
	nvme_reg_write(ctrl, NVME_REG_CC, cc | NVME_SET(NVME_CC_SHN_NORMAL, NVME_CC_SHN));
	ret = nvme_wait_csts(ctrl, NVME_SET(NVME_CSTS_SHST_MASK, NVME_CSTS_SHST),
			NVME_SET(NVME_CSTS_SHST_COMPLETE, NVME_CSTS_SHST), true,
			ctrl->shutdown_ms, "SHST complete after CC.SHN normal");
	if (ret != 0)
		return ret;

	return nvme_disable(ctrl);
}

int
nvme_sq_post(struct nvme_qpair *qp, struct nvme_sqe *cmd)
{
	volatile struct nvme_sqe *sqe = &qp->sq[qp->sq_tail];

	if (nvme_sq_is_full(qp->sq_head, qp->sq_tail, qp->size))
		return -ENOSPC;
	if (cmd->cid < NVME_AER_CID) {
		cmd->cid = qp->next_cid;
		qp->next_cid = (qp->next_cid + 1) % NVME_AER_CID;
	}

	sqe->opc = cmd->opc;
	sqe->flags = cmd->flags;
	sqe->cid = rte_cpu_to_le_16(cmd->cid);
	sqe->nsid = rte_cpu_to_le_32(cmd->nsid);
	sqe->cdw2 = rte_cpu_to_le_32(cmd->cdw2);
	sqe->cdw3 = rte_cpu_to_le_32(cmd->cdw3);
	sqe->mptr = rte_cpu_to_le_64(cmd->mptr);
	sqe->prp1 = rte_cpu_to_le_64(cmd->prp1);
	sqe->prp2 = rte_cpu_to_le_64(cmd->prp2);
	sqe->cdw10 = rte_cpu_to_le_32(cmd->cdw10);
	sqe->cdw11 = rte_cpu_to_le_32(cmd->cdw11);
	sqe->cdw12 = rte_cpu_to_le_32(cmd->cdw12);
	sqe->cdw13 = rte_cpu_to_le_32(cmd->cdw13);
	sqe->cdw14 = rte_cpu_to_le_32(cmd->cdw14);
	sqe->cdw15 = rte_cpu_to_le_32(cmd->cdw15);
	qp->sq_tail = nvme_index_next(qp->sq_tail, qp->size);

	return cmd->cid;
}

void
nvme_sq_ring(struct nvme_qpair *qp)
{
	/* rte_write32() orders the entries before the doorbell, on which they are fetched. */
	rte_write32(rte_cpu_to_le_32(qp->sq_tail), qp->sq_doorbell);
}

bool
nvme_cq_peek(struct nvme_qpair *qp, struct nvme_cqe *cqe)
{
	volatile struct nvme_cqe *entry = &qp->cq[qp->cq_head];

	cqe->dw3 = rte_le_to_cpu_32(entry->dw3);
	if (!nvme_cqe_is_new(cqe->dw3, qp->phase))
		return false;

	/* The phase before the rest of the entry and the data, which are valid only with it. */
	rte_io_rmb();
	cqe->dw0 = rte_le_to_cpu_32(entry->dw0);
	cqe->dw1 = rte_le_to_cpu_32(entry->dw1);
	cqe->sqhd = rte_le_to_cpu_16(entry->sqhd);
	cqe->sqid = rte_le_to_cpu_16(entry->sqid);
	qp->sq_head = cqe->sqhd;

	return true;
}

void
nvme_cq_advance(struct nvme_qpair *qp)
{
	qp->cq_head = nvme_index_next(qp->cq_head, qp->size);
	qp->phase = nvme_phase_next(qp->cq_head, qp->phase);
	/* The entry has been read when the doorbell lets the controller overwrite it. */
	rte_io_rmb();
	rte_write32(rte_cpu_to_le_32(qp->cq_head), qp->cq_doorbell);
}

void
nvme_doorbell_write(struct nvme_ctrl *ctrl, uint16_t qid, enum nvme_doorbell which,
		uint32_t value)
{
	const uint8_t dstrd = NVME_GET(ctrl->cap, NVME_CAP_DSTRD);

	rte_write32(rte_cpu_to_le_32(value), ctrl->bar + nvme_doorbell_offset(qid, which, dstrd));
}
