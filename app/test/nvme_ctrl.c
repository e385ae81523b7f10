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
/* Least bytes of a namespace: room for each block that a test reads. */
#define NVME_MIN_SIZE (256u << 10)
/* Bytes of an Error Information log entry (5.14.1.1). */
#define NVME_ERROR_ENTRY_SIZE 64

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
nvme_reg_read(const struct nvme_ctrl *ctrl, uint32_t reg)
{
	return rte_le_to_cpu_32(rte_read32(ctrl->bar + reg));
}

void
nvme_reg_write(struct nvme_ctrl *ctrl, uint32_t reg, uint32_t value)
{
	rte_write32(rte_cpu_to_le_32(value), ctrl->bar + reg);
}

static void
nvme_reg_write64(struct nvme_ctrl *ctrl, uint32_t reg, uint64_t value)
{
	/* Two halves: some controllers do not take 64-bit accesses. */
	nvme_reg_write(ctrl, reg, (uint32_t)value);
	nvme_reg_write(ctrl, reg + 4, value >> 32);
}

uint32_t
nvme_doorbell(const struct nvme_ctrl *ctrl, uint16_t qid, enum nvme_doorbell which)
{
	const uint32_t stride = 4u << NVME_GET(ctrl->cap, NVME_CAP_DSTRD);

	return NVME_REG_DBS + (2 * (uint32_t)qid + which) * stride;
}

/* The memzone has two pages for each queue pair, and the buffers after them. */
static size_t
nvme_queue_offset(const struct nvme_ctrl *ctrl, uint16_t qid)
{
	return qid * 2 * (size_t)ctrl->page_size;
}

static struct nvme_mem
nvme_mem_at(const struct nvme_ctrl *ctrl, size_t offset)
{
	struct nvme_mem mem = { RTE_PTR_ADD(ctrl->mz->addr, offset), ctrl->mz->iova + offset };

	return mem;
}

struct nvme_mem
nvme_buf(const struct nvme_ctrl *ctrl, unsigned int index)
{
	return nvme_mem_at(ctrl, nvme_queue_offset(ctrl, NVME_QUEUES + 1) +
			index * NVME_BUF_SIZE);
}

static const struct rte_memzone *
nvme_mem_lookup(const struct nvme_ctrl *ctrl, char name[RTE_MEMZONE_NAMESIZE])
{
	snprintf(name, RTE_MEMZONE_NAMESIZE, "nvme_%s", ctrl->name);
	return rte_memzone_lookup(name);
}

/*
 * Find or reserve the memory of a controller. It stays until nvme_ctrl_free(), also when a queue is
 * no more: a controller that was not told to delete it may still write to it.
 */
static int
nvme_mem_get(struct nvme_ctrl *ctrl)
{
	const size_t size = nvme_queue_offset(ctrl, NVME_QUEUES + 1) + NVME_BUFS * NVME_BUF_SIZE;
	const struct rte_memzone *mz;
	char name[RTE_MEMZONE_NAMESIZE];

	if (ctrl->mz != NULL)
		return 0;
	mz = nvme_mem_lookup(ctrl, name);
	if (mz == NULL && rte_eal_process_type() == RTE_PROC_PRIMARY)
		mz = rte_memzone_reserve_aligned(name, size, SOCKET_ID_ANY,
				RTE_MEMZONE_IOVA_CONTIG, ctrl->page_size);
	if (mz == NULL || mz->iova == RTE_BAD_IOVA)
		return nvme_fail(ctrl, -ENOMEM, "memzone %s of %zu bytes: %s", name, size,
				mz != NULL ? "physical address not known" :
				rte_strerror(rte_errno));
	ctrl->mz = mz;
	ctrl->buf = nvme_buf(ctrl, 0);

	return 0;
}

void
nvme_ctrl_free(struct nvme_ctrl *ctrl)
{
	char name[RTE_MEMZONE_NAMESIZE];

	/* By name: nvme_ctrl_init() clears ctrl->mz. */
	rte_memzone_free(nvme_mem_lookup(ctrl, name));
	ctrl->mz = NULL;
}

int
nvme_ctrl_init(struct nvme_ctrl *ctrl, const char *name, void *bar, uint32_t time_scale)
{
	uint32_t to;

	memset(ctrl, 0, sizeof(*ctrl));
	ctrl->name = name;
	ctrl->bar = bar;
	if (bar == NULL)
		return nvme_fail(ctrl, -ENODEV, "BAR 0 is not mapped");
	if (nvme_reg_read(ctrl, NVME_REG_CSTS) == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "BAR 0 reads as ones: device gone or asleep");

	ctrl->cap = nvme_reg_read(ctrl, NVME_REG_CAP);
	ctrl->cap |= (uint64_t)nvme_reg_read(ctrl, NVME_REG_CAP + 4) << 32;
	ctrl->version = nvme_reg_read(ctrl, NVME_REG_VS);
	ctrl->page_size = 1u << (12 + NVME_GET(ctrl->cap, NVME_CAP_MPSMIN));
	ctrl->command_ms = NVME_COMMAND_MS * time_scale;
	to = NVME_GET(ctrl->cap, NVME_CAP_TO);
	if (NVME_GET(ctrl->cap, NVME_CAP_CRMS) != 0)
		to = RTE_MAX(to, nvme_reg_read(ctrl, NVME_REG_CRTO) & 0xffff);
	/* One unit more than announced: 0 is a legal value, and it is rounded down. */
	ctrl->ready_ms = RTE_MAX((to + 1) * 500 * time_scale, ctrl->command_ms);
	ctrl->shutdown_ms = ctrl->ready_ms;
	if ((ctrl->cap & NVME_CAP_CSS_NVM) == 0)
		return nvme_fail(ctrl, -ENOTSUP, "no NVM command set, or a VF that is offline: "
				"CAP 0x%016" PRIx64, ctrl->cap);

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
		if (fatal_ends && (csts & NVME_CSTS_CFS))
			return nvme_fail(ctrl, -ENODEV, "fatal status instead of %s, CSTS 0x%08x",
					what, csts);
		rte_pause();
	} while (!expired);

	return nvme_fail(ctrl, -ETIMEDOUT, "waited %u ms for %s, CSTS 0x%08x", ms, what, csts);
}

int
nvme_disable(struct nvme_ctrl *ctrl)
{
	uint32_t cc = nvme_reg_read(ctrl, NVME_REG_CC);

	if (cc == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "gone: CC reads as ones");
	/* CC.EN must not change before RDY follows its last change, unless that will never be. */
	if (cc & NVME_CC_EN)
		nvme_wait_csts(ctrl, NVME_CSTS_RDY, NVME_CSTS_RDY, true, ctrl->ready_ms,
				"RDY 1 before disabling");

	nvme_reg_write(ctrl, NVME_REG_CC, cc & ~NVME_CC_EN);
	if (ctrl->settle_ms > 0 && (cc & NVME_CC_EN))
		rte_delay_us_sleep(ctrl->settle_ms * 1000);
	return nvme_wait_csts(ctrl, NVME_CSTS_RDY, 0, false, ctrl->ready_ms, "RDY 0 after CC.EN 0");
}

int
nvme_qpair_init(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint16_t qid)
{
	const uint32_t max = NVME_GET(ctrl->cap, NVME_CAP_MQES) + 1;
	int ret = nvme_mem_get(ctrl);

	if (ret == 0 && qid > NVME_QUEUES)
		ret = nvme_fail(ctrl, -EINVAL, "no memory for queue %u", qid);
	if (ret != 0)
		return ret;
	memset(qp, 0, sizeof(*qp));
	qp->mem = nvme_mem_at(ctrl, nvme_queue_offset(ctrl, qid));
	qp->qid = qid;
	qp->size = RTE_MIN(max, (uint32_t)NVME_QUEUE_SIZE);
	/* The controller starts with phase 1 in a completion queue that reads as zeroes. */
	qp->phase = 1;
	qp->sq = qp->mem.addr;
	qp->cq = RTE_PTR_ADD(qp->mem.addr, ctrl->page_size);
	qp->sq_doorbell = ctrl->bar + nvme_doorbell(ctrl, qid, NVME_DB_SQ_TAIL);
	qp->cq_doorbell = ctrl->bar + nvme_doorbell(ctrl, qid, NVME_DB_CQ_HEAD);

	return 0;
}

/* Set the admin queues, set CC.EN, wait for CSTS.RDY 1. */
static int
nvme_enable(struct nvme_ctrl *ctrl)
{
	struct nvme_qpair *qp = &ctrl->admin;
	int ret;

	ret = nvme_qpair_init(ctrl, qp, 0);
	if (ret != 0)
		return ret;
	memset(qp->mem.addr, 0, 2 * (size_t)ctrl->page_size);
	ctrl->aer_armed = false;
	ctrl->event_arrived = false;

	/* Completions are polled for: without this mask each would raise INTx. */
	nvme_reg_write(ctrl, NVME_REG_INTMS, UINT32_MAX);
	nvme_reg_write(ctrl, NVME_REG_AQA, NVME_SET(qp->size - 1u, NVME_SQ_PART) |
			NVME_SET(qp->size - 1u, NVME_CQ_PART));
	nvme_reg_write64(ctrl, NVME_REG_ASQ, qp->mem.iova);
	nvme_reg_write64(ctrl, NVME_REG_ACQ, qp->mem.iova + ctrl->page_size);
	/* rte_write32() puts the zeroed queues in memory before the controller may look at them. */
	nvme_reg_write(ctrl, NVME_REG_CC, NVME_CC_EN |
			NVME_SET((uint32_t)NVME_GET(ctrl->cap, NVME_CAP_MPSMIN), NVME_CC_MPS) |
			NVME_SET(6, NVME_CC_IOSQES) | NVME_SET(4, NVME_CC_IOCQES));

	return nvme_wait_csts(ctrl, NVME_CSTS_RDY, NVME_CSTS_RDY, true, ctrl->ready_ms,
			"RDY 1 after CC.EN 1");
}

int
nvme_shutdown(struct nvme_ctrl *ctrl)
{
	uint32_t cc = nvme_reg_read(ctrl, NVME_REG_CC);

	if (cc == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "gone: CC reads as ones");
	nvme_reg_write(ctrl, NVME_REG_CC, (cc & ~NVME_CC_SHN) |
			NVME_SET(NVME_CC_SHN_NORMAL, NVME_CC_SHN));
	/* VMware's controller never completes a shutdown. It must stop nevertheless. */
	if (nvme_wait_csts(ctrl, NVME_CSTS_SHST,
			NVME_SET(NVME_CSTS_SHST_COMPLETE, NVME_CSTS_SHST), true,
			ctrl->shutdown_ms, "SHST complete after CC.SHN normal") != 0)
		printf("# %s: disabling it instead\n", ctrl->error);
	return nvme_disable(ctrl);
}

/* Index after one in a queue. */
static uint16_t
nvme_next(const struct nvme_qpair *qp, uint16_t index)
{
	return index + 1u < qp->size ? index + 1u : 0;
}

int
nvme_sq_post(struct nvme_qpair *qp, const struct nvme_sqe *cmd)
{
	const struct nvme_sqe sqe = {
		.opc = cmd->opc,
		.cid = rte_cpu_to_le_16(cmd->cid),
		.nsid = rte_cpu_to_le_32(cmd->nsid),
		.prp1 = rte_cpu_to_le_64(cmd->prp1),
		.cdw10 = rte_cpu_to_le_32(cmd->cdw10),
		.cdw11 = rte_cpu_to_le_32(cmd->cdw11),
		.cdw12 = rte_cpu_to_le_32(cmd->cdw12),
	};

	/* One entry always stays unused, or a full queue would look like an empty one (4.1.2). */
	if (nvme_next(qp, qp->sq_tail) == qp->sq_head)
		return -ENOSPC;
	qp->sq[qp->sq_tail] = sqe;
	qp->sq_tail = nvme_next(qp, qp->sq_tail);

	return 0;
}

void
nvme_sq_ring(struct nvme_qpair *qp)
{
	/* rte_write32() orders the entries before the doorbell, on which they are fetched. */
	rte_write32(rte_cpu_to_le_32(qp->sq_tail), qp->sq_doorbell);
}

bool
nvme_cq_take(struct nvme_qpair *qp, struct nvme_cqe *cqe)
{
	volatile struct nvme_cqe *entry = &qp->cq[qp->cq_head];

	cqe->dw3 = rte_le_to_cpu_32(entry->dw3);
	if (NVME_GET(cqe->dw3, NVME_CQE_P) != qp->phase)
		return false;

	/* The phase before the rest of the entry and the data, which are valid only with it. */
	rte_io_rmb();
	cqe->dw0 = rte_le_to_cpu_32(entry->dw0);
	qp->sq_head = rte_le_to_cpu_16(entry->sqhd);
	qp->cq_head = nvme_next(qp, qp->cq_head);
	/* The controller inverts the phase each time it passes the end of the queue (4.6). */
	if (qp->cq_head == 0)
		qp->phase ^= 1;

	return true;
}

void
nvme_cq_ring(struct nvme_qpair *qp)
{
	/* All entries have been read when the doorbell lets the controller overwrite them. */
	rte_io_rmb();
	rte_write32(rte_cpu_to_le_32(qp->cq_head), qp->cq_doorbell);
}

int
nvme_check_alive(struct nvme_ctrl *ctrl, const char *what)
{
	uint32_t csts = nvme_reg_read(ctrl, NVME_REG_CSTS);

	if (csts == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "gone during %s", what);
	if ((csts & NVME_CSTS_CFS) || !(csts & NVME_CSTS_RDY))
		return nvme_fail(ctrl, -ENODEV, "%s during %s, CSTS 0x%08x",
				csts & NVME_CSTS_CFS ? "fatal status" : "not ready", what, csts);
	return 0;
}

/* An event that arrives meanwhile is kept for nvme_aer_wait(). */
int
nvme_wait(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what, uint16_t cid,
		uint32_t ms)
{
	uint64_t deadline = nvme_deadline(ms);
	uint64_t look_at_status = nvme_deadline(1);
	struct nvme_cqe *cqe = &ctrl->cqe;
	bool expired;
	int ret;

	do {
		/* The clock before the queue, so that the last look is never too early. */
		expired = nvme_expired(deadline);
		while (nvme_cq_take(qp, cqe)) {
			nvme_cq_ring(qp);
			if (NVME_GET(cqe->dw3, NVME_CQE_CID) == NVME_AER_CID) {
				ctrl->event = *cqe;
				ctrl->event_arrived = true;
				ctrl->aer_armed = false;
			}
			if (NVME_GET(cqe->dw3, NVME_CQE_CID) != cid)
				continue;
			/* The Status Code Type in the hundreds, then the Status Code. */
			if (NVME_GET(cqe->dw3, NVME_CQE_STATUS) != 0)
				return nvme_fail(ctrl, -EIO, "%s on queue %u: status %03xh", what,
						qp->qid, NVME_GET(cqe->dw3, NVME_CQE_STATUS));
			return 0;
		}
		/* Reading a register stalls the CPU, and more so in a VM: once a millisecond. */
		if (nvme_expired(look_at_status)) {
			ret = nvme_check_alive(ctrl, what);
			if (ret != 0)
				return ret;
			look_at_status = nvme_deadline(1);
		}
		rte_pause();
	} while (!expired);

	return nvme_fail(ctrl, -ETIMEDOUT, "waited %u ms for %s on queue %u, CSTS 0x%08x", ms,
			what, qp->qid, nvme_reg_read(ctrl, NVME_REG_CSTS));
}

/* Run one command to its completion; it gets the next identifier of the queue. */
static int
nvme_command(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what,
		struct nvme_sqe *cmd)
{
	int ret;

	cmd->cid = qp->next_cid;
	ret = nvme_sq_post(qp, cmd);
	if (ret != 0)
		return nvme_fail(ctrl, ret, "%s: submission queue %u is full", what, qp->qid);
	qp->next_cid = (qp->next_cid + 1) % NVME_AER_CID;
	nvme_sq_ring(qp);

	return nvme_wait(ctrl, qp, what, cmd->cid, ctrl->command_ms);
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
	return nvme_command(ctrl, &ctrl->admin, "Identify", &cmd);
}

/* Identify the controller, then the first namespace that is active. */
static int
nvme_identify_all(struct nvme_ctrl *ctrl)
{
	const struct nvme_id_ctrl *id = ctrl->buf.addr;
	const struct nvme_id_ns *ns = ctrl->buf.addr;
	const struct nvme_lbaf *format;
	uint32_t last;
	int ret;

	ret = nvme_identify(ctrl, NVME_CNS_CONTROLLER, 0);
	if (ret != 0)
		return ret;
	ctrl->shutdown_ms = RTE_MAX(ctrl->ready_ms, rte_le_to_cpu_32(id->rtd3e) / 1000 *
			(ctrl->command_ms / NVME_COMMAND_MS));

	/* A list of the active ones came with 1.1. Before, an inactive one has no blocks. */
	ctrl->nsid = 1;
	last = rte_le_to_cpu_32(id->nn);
	if (ctrl->version >= NVME_VERSION(1, 1)) {
		ret = nvme_identify(ctrl, NVME_CNS_ACTIVE_NAMESPACES, 0);
		last = rte_le_to_cpu_32(*(const uint32_t *)ctrl->buf.addr);
		ctrl->nsid = RTE_MAX(last, ctrl->nsid);
	}
	for (; ret == 0 && ctrl->nsid <= last; ctrl->nsid++) {
		ret = nvme_identify(ctrl, NVME_CNS_NAMESPACE, ctrl->nsid);
		if (ns->nsze != 0)
			break;
	}
	if (ret != 0)
		return ret;
	if (ctrl->nsid > last)
		return nvme_fail(ctrl, -ENOTSUP, "no active namespace");

	format = &ns->lbaf[(ns->flbas & 0xf) | (ns->flbas >> 1 & 0x30)];
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
		.cdw10 = 0x07, /* Number of Queues */
		.cdw11 = NVME_SET(NVME_QUEUES - 1u, NVME_SQ_PART) |
			NVME_SET(NVME_QUEUES - 1u, NVME_CQ_PART),
	};
	int ret;

	ret = nvme_enable(ctrl);
	if (ret == 0)
		ret = nvme_identify_all(ctrl);
	if (ret == 0)
		ret = nvme_command(ctrl, &ctrl->admin, "Set Features (queues)", &cmd);
	if (ret == 0)
		ctrl->io_queues = RTE_MIN(NVME_GET(ctrl->cqe.dw0, NVME_SQ_PART),
				NVME_GET(ctrl->cqe.dw0, NVME_CQ_PART)) + 1;

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
	memset(qp->mem.addr, 0, 2 * (size_t)ctrl->page_size);

	cmd.prp1 = qp->mem.iova + ctrl->page_size;
	cmd.cdw10 = NVME_SET(qid, NVME_CDW10_QID) | NVME_SET(qp->size - 1u, NVME_CDW10_QSIZE);
	cmd.cdw11 = NVME_CDW11_PC;
	ret = nvme_command(ctrl, &ctrl->admin, "Create I/O Completion Queue", &cmd);
	if (ret != 0)
		return ret;

	cmd.opc = NVME_ADMIN_CREATE_SQ;
	cmd.prp1 = qp->mem.iova;
	cmd.cdw11 |= NVME_SET((uint32_t)qid, NVME_CDW11_CQID);
	return nvme_command(ctrl, &ctrl->admin, "Create I/O Submission Queue", &cmd);
}

int
nvme_qpair_delete(struct nvme_ctrl *ctrl, struct nvme_qpair *qp)
{
	struct nvme_sqe cmd = { .opc = NVME_ADMIN_DELETE_SQ, .cdw10 = qp->qid };
	int ret;

	/* A completion queue cannot go before the submission queues that use it. */
	ret = nvme_command(ctrl, &ctrl->admin, "Delete I/O Submission Queue", &cmd);
	if (ret != 0)
		return ret;
	cmd.opc = NVME_ADMIN_DELETE_CQ;

	return nvme_command(ctrl, &ctrl->admin, "Delete I/O Completion Queue", &cmd);
}

struct nvme_sqe
nvme_read_prepare(const struct nvme_ctrl *ctrl, uint64_t lba, unsigned int buf)
{
	const struct nvme_sqe cmd = {
		.opc = NVME_NVM_READ,
		.nsid = ctrl->nsid,
		/* One page at most, as NVME_BUF_SIZE is the smallest page: no second PRP. */
		.prp1 = nvme_buf(ctrl, buf).iova,
		.cdw10 = (uint32_t)lba,
		.cdw11 = (uint32_t)(lba >> 32),
		.cdw12 = nvme_io_blocks(ctrl) - 1,
	};

	return cmd;
}

int
nvme_read(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint64_t lba, unsigned int buf)
{
	struct nvme_sqe cmd = nvme_read_prepare(ctrl, lba, buf);

	return nvme_command(ctrl, qp, "Read", &cmd);
}

void
nvme_spoil(const struct nvme_ctrl *ctrl, unsigned int buf, unsigned int expected)
{
	const uint8_t *right = nvme_buf(ctrl, expected).addr;

	memset(nvme_buf(ctrl, buf).addr, ~right[0], NVME_BUF_SIZE);
}

int
nvme_compare(struct nvme_ctrl *ctrl, uint64_t lba, unsigned int buf, unsigned int expected)
{
	const uint8_t *data = nvme_buf(ctrl, buf).addr, *right = nvme_buf(ctrl, expected).addr;
	size_t i = 0;

	if (memcmp(data, right, NVME_BUF_SIZE) == 0)
		return 0;
	while (data[i] == right[i])
		i++;
	return nvme_fail(ctrl, -EILSEQ, "block %" PRIu64 ": byte %zu is %02xh, not %02xh", lba, i,
			data[i], right[i]);
}

int
nvme_read_expected(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, uint64_t lba,
		unsigned int buf, unsigned int expected)
{
	int ret;

	nvme_spoil(ctrl, buf, expected);
	ret = nvme_read(ctrl, qp, lba, buf);
	return ret == 0 ? nvme_compare(ctrl, lba, buf, expected) : ret;
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
nvme_aer_wait(struct nvme_ctrl *ctrl, uint32_t ms, uint32_t *dw0)
{
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_GET_LOG_PAGE,
		.nsid = UINT32_MAX, /* of the controller */
		.prp1 = ctrl->buf.iova,
		/* the number of dwords, 0's based, above the log page */
		.cdw10 = (NVME_ERROR_ENTRY_SIZE / sizeof(uint32_t) - 1) << 16,
	};
	int ret = 0;

	if (!ctrl->event_arrived)
		ret = nvme_wait(ctrl, &ctrl->admin, "an event", NVME_AER_CID, ms);
	ctrl->event_arrived = false;
	if (ret == 0 && NVME_GET(ctrl->event.dw3, NVME_CQE_STATUS) != 0)
		ret = nvme_fail(ctrl, -EIO, "event request: status %03xh",
				NVME_GET(ctrl->event.dw3, NVME_CQE_STATUS));
	if (ret != 0)
		return ret;
	*dw0 = ctrl->event.dw0;
	cmd.cdw10 |= NVME_GET(*dw0, NVME_AER_LID);

	return nvme_command(ctrl, &ctrl->admin, "Get Log Page", &cmd);
}
