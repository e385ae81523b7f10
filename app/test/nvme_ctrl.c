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

#include "nvme_ctrl.h"

/* Deadline of a command: an emulated controller shares its CPU with this program. */
#define NVME_COMMAND_MS 5000
/* I/O queue pairs to ask for: the most that one test uses at a time, and some to spare. */
#define NVME_QUEUES_WANTED 8
/* Least bytes of a namespace: room for each block that a test reads. */
#define NVME_MIN_SIZE (256u << 10)

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
	uint32_t crto = 0;

	memset(ctrl, 0, sizeof(*ctrl));
	ctrl->name = name;
	ctrl->bar = bar;
	if (bar == NULL)
		return nvme_fail(ctrl, -ENODEV, "BAR 0 is not mapped");
	if (nvme_reg_read(ctrl, NVME_REG_CSTS) == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "BAR 0 reads as ones: device gone or asleep");

	ctrl->cap = nvme_reg_read(ctrl, NVME_REG_CAP);
	ctrl->cap |= (uint64_t)rte_le_to_cpu_32(rte_read32(ctrl->bar + NVME_REG_CAP + 4)) << 32;
	ctrl->version = nvme_reg_read(ctrl, NVME_REG_VS);
	ctrl->page_size = 1u << (12 + NVME_GET(ctrl->cap, NVME_CAP_MPSMIN));
	if (NVME_GET(ctrl->cap, NVME_CAP_CRMS) != 0)
		crto = nvme_reg_read(ctrl, NVME_REG_CRTO);
	ctrl->command_ms = NVME_COMMAND_MS * time_scale;
	ctrl->ready_ms = RTE_MAX(nvme_ready_timeout_ms(ctrl->cap, crto) * time_scale,
			ctrl->command_ms);
	ctrl->shutdown_ms = ctrl->ready_ms;
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

	if (cc == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "gone: CC reads as ones");
	/* CC.EN must not change before RDY follows its last change, unless that will never be. */
	if (NVME_GET(cc, NVME_CC_EN))
		nvme_wait_csts(ctrl, rdy, rdy, true, ctrl->ready_ms, "RDY 1 before disabling");

	nvme_reg_write(ctrl, NVME_REG_CC, cc & ~NVME_SET(1, NVME_CC_EN));
	if (ctrl->settle_ms > 0 && NVME_GET(cc, NVME_CC_EN))
		rte_delay_us_sleep(ctrl->settle_ms * 1000);
	return nvme_wait_csts(ctrl, rdy, 0, false, ctrl->ready_ms, "RDY 0 after CC.EN 0");
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
	ctrl->aer_armed = false;
	ctrl->event_arrived = false;

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

	return nvme_wait_csts(ctrl, rdy, rdy, true, ctrl->ready_ms, "RDY 1 after CC.EN 1");
}

int
nvme_shutdown(struct nvme_ctrl *ctrl)
{
	uint32_t cc = nvme_reg_read(ctrl, NVME_REG_CC);
	char error[sizeof(ctrl->error)];
	int ret;

	if (cc == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "gone: CC reads as ones");
	cc &= ~NVME_SET(NVME_CC_SHN_MASK, NVME_CC_SHN);
	nvme_reg_write(ctrl, NVME_REG_CC, cc | NVME_SET(NVME_CC_SHN_NORMAL, NVME_CC_SHN));
	ret = nvme_wait_csts(ctrl, NVME_SET(NVME_CSTS_SHST_MASK, NVME_CSTS_SHST),
			NVME_SET(NVME_CSTS_SHST_COMPLETE, NVME_CSTS_SHST), true,
			ctrl->shutdown_ms, "SHST complete after CC.SHN normal");
	if (ret == 0)
		return nvme_disable(ctrl);

	/* VMware's controller never completes a shutdown. It must stop nevertheless. */
	memcpy(error, ctrl->error, sizeof(error));
	ret = nvme_disable(ctrl);
	if (ret == 0)
		printf("# %s: disabled instead\n", error);
	return ret;
}

int
nvme_sq_post(struct nvme_qpair *qp, const struct nvme_sqe *cmd)
{
	volatile struct nvme_sqe *sqe = &qp->sq[qp->sq_tail];

	if (nvme_sq_is_full(qp->sq_head, qp->sq_tail, qp->size))
		return -ENOSPC;

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

	return 0;
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
}

void
nvme_cq_ring(struct nvme_qpair *qp)
{
	/* All entries have been read when the doorbell lets the controller overwrite them. */
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

/* Take one completion off the queue; false when there is none. */
static bool
nvme_reap(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, struct nvme_cqe *cqe)
{
	if (!nvme_cq_peek(qp, cqe))
		return false;
	nvme_cq_advance(qp);
	nvme_cq_ring(qp);

	if (qp->qid == 0 && NVME_GET(cqe->dw3, NVME_CQE_CID) == NVME_AER_CID) {
		ctrl->event = nvme_event_decode(cqe->dw0, cqe->dw3);
		ctrl->event_arrived = true;
		ctrl->aer_armed = false;
	}

	return true;
}

int
nvme_check_alive(struct nvme_ctrl *ctrl, const struct nvme_qpair *qp, const char *what)
{
	uint32_t csts = nvme_reg_read(ctrl, NVME_REG_CSTS);

	if (csts == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "gone during %s on queue %u", what, qp->qid);
	if (NVME_GET(csts, NVME_CSTS_CFS) || !NVME_GET(csts, NVME_CSTS_RDY))
		return nvme_fail(ctrl, -ENODEV, "%s during %s on queue %u, CSTS 0x%08x",
				NVME_GET(csts, NVME_CSTS_CFS) ? "fatal status" : "not ready",
				what, qp->qid, csts);
	return 0;
}

int
nvme_wait(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what, uint16_t cid,
		struct nvme_cqe *out)
{
	uint64_t deadline = nvme_deadline(ctrl->command_ms);
	uint64_t look_at_status = nvme_deadline(1);
	struct nvme_cqe cqe;
	bool expired;
	int ret;

	do {
		/* The clock before the queue, so that the last look is never too early. */
		expired = nvme_expired(deadline);
		while (nvme_reap(ctrl, qp, &cqe)) {
			if (NVME_GET(cqe.dw3, NVME_CQE_CID) != cid)
				continue;
			if (out != NULL)
				*out = cqe;
			if (nvme_cqe_status(cqe.dw3) == 0)
				return 0;
			return nvme_fail(ctrl, -EIO, "%s on queue %u: SCT %xh SC %02xh", what,
					qp->qid, NVME_GET(cqe.dw3, NVME_CQE_SCT),
					NVME_GET(cqe.dw3, NVME_CQE_SC));
		}
		/* Reading a register stalls the CPU, and more so in a VM: once a millisecond. */
		if (nvme_expired(look_at_status)) {
			ret = nvme_check_alive(ctrl, qp, what);
			if (ret != 0)
				return ret;
			look_at_status = nvme_deadline(1);
		}
		rte_pause();
	} while (!expired);

	return nvme_fail(ctrl, -ETIMEDOUT, "waited %u ms for %s on queue %u, CSTS 0x%08x",
			ctrl->command_ms, what, qp->qid, nvme_reg_read(ctrl, NVME_REG_CSTS));
}

int
nvme_command(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what,
		struct nvme_sqe *cmd, struct nvme_cqe *cqe)
{
	int ret;

	cmd->cid = qp->next_cid;
	ret = nvme_sq_post(qp, cmd);
	if (ret != 0)
		return nvme_fail(ctrl, ret, "%s: submission queue %u is full", what, qp->qid);
	qp->next_cid = (qp->next_cid + 1) % NVME_AER_CID;
	nvme_sq_ring(qp);

	return nvme_wait(ctrl, qp, what, cmd->cid, cqe);
}

int
nvme_identify(struct nvme_ctrl *ctrl, enum nvme_cns cns, uint32_t nsid)
{
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_IDENTIFY,
		.nsid = nsid,
		.prp1 = ctrl->buf.iova,
		.cdw10 = cns,
	};

	memset(ctrl->buf.addr, 0, NVME_BUF_SIZE);
	return nvme_command(ctrl, &ctrl->admin, "Identify", &cmd, NULL);
}

int
nvme_get_log(struct nvme_ctrl *ctrl, uint8_t lid, uint32_t len)
{
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_GET_LOG_PAGE,
		.nsid = NVME_NSID_ALL,
		.prp1 = ctrl->buf.iova,
		.cdw10 = NVME_SET(lid, NVME_LOG_LID) |
			NVME_SET(len / sizeof(uint32_t) - 1, NVME_LOG_NUMDL),
	};

	memset(ctrl->buf.addr, 0, NVME_BUF_SIZE);
	return nvme_command(ctrl, &ctrl->admin, "Get Log Page", &cmd, NULL);
}

/* The number of namespaces goes to nn. */
static int
nvme_identify_ctrl(struct nvme_ctrl *ctrl, uint32_t *nn)
{
	const struct nvme_id_ctrl *id = ctrl->buf.addr;
	size_t len = sizeof(id->mn);
	int ret;

	ret = nvme_identify(ctrl, NVME_CNS_CONTROLLER, 0);
	if (ret != 0)
		return ret;

	while (len > 0 && id->mn[len - 1] == ' ')
		len--;
	memcpy(ctrl->model, id->mn, len);
	ctrl->model[len] = '\0';
	ctrl->shutdown_ms = RTE_MAX(ctrl->ready_ms, rte_le_to_cpu_32(id->rtd3e) / 1000);
	*nn = rte_le_to_cpu_32(id->nn);

	return 0;
}

/* Identify the first namespace that is active; its data are in ctrl->buf. */
static int
nvme_find_namespace(struct nvme_ctrl *ctrl, uint32_t nn)
{
	const struct nvme_id_ns *ns = ctrl->buf.addr;
	int ret;

	/* A list of the active ones came with 1.1. Before, an inactive one has no blocks. */
	if (ctrl->version >= NVME_VERSION(1, 1)) {
		ret = nvme_identify(ctrl, NVME_CNS_ACTIVE_NAMESPACES, 0);
		ctrl->nsid = rte_le_to_cpu_32(*(const uint32_t *)ctrl->buf.addr);
		if (ret != 0 || ctrl->nsid == 0)
			return ret != 0 ? ret : nvme_fail(ctrl, -ENOTSUP, "no active namespace");
		return nvme_identify(ctrl, NVME_CNS_NAMESPACE, ctrl->nsid);
	}
	for (ctrl->nsid = 1; ctrl->nsid <= nn; ctrl->nsid++) {
		ret = nvme_identify(ctrl, NVME_CNS_NAMESPACE, ctrl->nsid);
		if (ret != 0 || ns->nsze != 0)
			return ret;
	}
	return nvme_fail(ctrl, -ENOTSUP, "none of %u namespaces is active", nn);
}

static int
nvme_identify_ns(struct nvme_ctrl *ctrl, uint32_t nn)
{
	const struct nvme_id_ns *ns = ctrl->buf.addr;
	const struct nvme_lbaf *format;
	int ret;

	ret = nvme_find_namespace(ctrl, nn);
	if (ret != 0)
		return ret;
	format = &ns->lbaf[nvme_flbas_index(ns->flbas)];
	if (format->ms != 0 || format->lbads < 9 || format->lbads > 12)
		return nvme_fail(ctrl, -ENOTSUP, "namespace %u has blocks of 2^%u bytes and %u of "
				"metadata: use a format of 512 to 4096 bytes without metadata",
				ctrl->nsid, format->lbads, rte_le_to_cpu_16(format->ms));
	ctrl->block_size = 1u << format->lbads;
	ctrl->blocks = rte_le_to_cpu_64(ns->nsze);
	if (ctrl->blocks * ctrl->block_size < NVME_MIN_SIZE)
		return nvme_fail(ctrl, -ENOTSUP, "namespace %u is smaller than %u KiB",
				ctrl->nsid, NVME_MIN_SIZE >> 10);

	return 0;
}

int
nvme_bring_up(struct nvme_ctrl *ctrl)
{
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_SET_FEATURES,
		.cdw10 = NVME_FEAT_NUMBER_OF_QUEUES,
		/* submission and completion queues, both 0's based */
		.cdw11 = (NVME_QUEUES_WANTED - 1) << 16 | (NVME_QUEUES_WANTED - 1),
	};
	struct nvme_cqe cqe;
	uint32_t nn = 0;
	int ret;

	ret = nvme_mem_get(ctrl, &ctrl->buf, "nvme_buf", 0, NVME_BUF_SIZE);
	if (ret == 0)
		ret = nvme_enable(ctrl);
	if (ret == 0)
		ret = nvme_identify_ctrl(ctrl, &nn);
	if (ret == 0)
		ret = nvme_identify_ns(ctrl, nn);
	if (ret == 0)
		ret = nvme_command(ctrl, &ctrl->admin, "Set Features (queues)", &cmd, &cqe);
	if (ret == 0)
		ctrl->io_queues = RTE_MIN(cqe.dw0 & 0xffff, cqe.dw0 >> 16) + 1;

	return ret;
}

int
nvme_qpair_create(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint16_t qid)
{
	struct nvme_sqe cmd = { .opc = NVME_ADMIN_CREATE_CQ };
	int ret;

	ret = nvme_qpair_init(ctrl, qp, qid);
	if (ret != 0)
		return ret;
	/* What an earlier queue of this number left there would carry a stale phase tag. */
	memset(qp->mem.addr, 0, qp->mem.mz->len);

	cmd.prp1 = qp->mem.iova + ctrl->page_size;
	cmd.cdw10 = NVME_SET(qid, NVME_CDW10_QID) | NVME_SET(qp->size - 1, NVME_CDW10_QSIZE);
	cmd.cdw11 = NVME_SET(1, NVME_CDW11_PC);
	ret = nvme_command(ctrl, &ctrl->admin, "Create I/O Completion Queue", &cmd, NULL);
	if (ret != 0)
		return ret;

	cmd.opc = NVME_ADMIN_CREATE_SQ;
	cmd.prp1 = qp->mem.iova;
	cmd.cdw11 |= NVME_SET(qid, NVME_CDW11_CQID);
	ret = nvme_command(ctrl, &ctrl->admin, "Create I/O Submission Queue", &cmd, NULL);
	if (ret != 0) {
		struct nvme_sqe undo = { .opc = NVME_ADMIN_DELETE_CQ, .cdw10 = qid };
		char error[sizeof(ctrl->error)];

		/* The first failure is the one to tell of. */
		memcpy(error, ctrl->error, sizeof(error));
		nvme_command(ctrl, &ctrl->admin, "Delete I/O Completion Queue", &undo, NULL);
		memcpy(ctrl->error, error, sizeof(error));
	}

	return ret;
}

int
nvme_qpair_delete(struct nvme_ctrl *ctrl, struct nvme_qpair *qp)
{
	struct nvme_sqe cmd = { .opc = NVME_ADMIN_DELETE_SQ, .cdw10 = qp->qid };
	int ret;

	/* A completion queue cannot go before the submission queues that use it. */
	ret = nvme_command(ctrl, &ctrl->admin, "Delete I/O Submission Queue", &cmd, NULL);
	if (ret != 0)
		return ret;
	cmd.opc = NVME_ADMIN_DELETE_CQ;

	return nvme_command(ctrl, &ctrl->admin, "Delete I/O Completion Queue", &cmd, NULL);
}

void
nvme_io_prepare(const struct nvme_ctrl *ctrl, struct nvme_sqe *cmd, enum nvme_nvm_opcode opc,
		uint64_t lba, const struct nvme_mem *buf)
{
	memset(cmd, 0, sizeof(*cmd));
	cmd->opc = opc;
	cmd->nsid = ctrl->nsid;
	/* One page at most, as NVME_BUF_SIZE is the smallest page: no second PRP. */
	cmd->prp1 = buf->iova;
	cmd->cdw10 = (uint32_t)lba;
	cmd->cdw11 = (uint32_t)(lba >> 32);
	cmd->cdw12 = nvme_io_blocks(ctrl) - 1;
}

int
nvme_io(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, enum nvme_nvm_opcode opc,
		uint64_t lba, const struct nvme_mem *buf)
{
	static const char * const names[] = {
		[NVME_NVM_WRITE] = "Write",
		[NVME_NVM_READ] = "Read",
	};
	struct nvme_sqe cmd;

	nvme_io_prepare(ctrl, &cmd, opc, lba, buf);
	return nvme_command(ctrl, qp, names[opc], &cmd, NULL);
}

int
nvme_aer_arm(struct nvme_ctrl *ctrl)
{
	struct nvme_sqe cmd = { .opc = NVME_ADMIN_ASYNC_EVENT, .cid = NVME_AER_CID };

	if (!ctrl->aer_armed) {
		if (nvme_sq_post(&ctrl->admin, &cmd) != 0)
			return nvme_fail(ctrl, -ENOSPC, "no room for an event request");
		ctrl->aer_armed = true;
	}
	/* Commands are fetched in order: when this one has completed, the request was fetched. */
	return nvme_identify(ctrl, NVME_CNS_CONTROLLER, 0);
}

int
nvme_aer_poll(struct nvme_ctrl *ctrl, struct nvme_event *event, uint32_t ms)
{
	uint64_t deadline = nvme_deadline(ms);
	struct nvme_cqe cqe;
	bool expired;
	int ret;

	do {
		expired = nvme_expired(deadline);
		while (!ctrl->event_arrived && nvme_reap(ctrl, &ctrl->admin, &cqe))
			;
		if (ctrl->event_arrived) {
			*event = ctrl->event;
			ctrl->event_arrived = false;
			return 0;
		}
		ret = nvme_check_alive(ctrl, &ctrl->admin, "a wait for an event");
		if (ret != 0)
			return ret;
		if (!expired)
			rte_delay_us_sleep(1000);
	} while (!expired);

	return nvme_fail(ctrl, -ETIMEDOUT, "waited %u ms for an asynchronous event", ms);
}
