/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_pause.h>

#include "nvme_flow.h"

/* I/O queue pairs to ask for: the most that one test uses at a time, and some to spare. */
#define NVME_QUEUES_WANTED 8

/* Take one completion off the queue; false when there is none. */
static bool
nvme_reap(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, struct nvme_cqe *cqe)
{
	if (!nvme_cq_peek(qp, cqe))
		return false;
	nvme_cq_advance(qp);

	if (qp->qid == 0 && NVME_GET(cqe->dw3, NVME_CQE_CID) >= NVME_AER_CID &&
			ctrl->events_count < RTE_DIM(ctrl->events))
		ctrl->events[ctrl->events_count++] = nvme_event_decode(cqe->dw0, cqe->dw3);

	return true;
}

/* Fatal, gone, or none of these; for a wait whose completion would never come. */
static int
nvme_check_alive(struct nvme_ctrl *ctrl, const struct nvme_qpair *qp, const char *what)
{
	uint32_t csts = nvme_reg_read(ctrl, NVME_REG_CSTS);

	if (csts == NVME_REG_GONE)
		return nvme_fail(ctrl, -ENODEV, "gone during %s on queue %u", what, qp->qid);
	if (NVME_GET(csts, NVME_CSTS_CFS))
		return nvme_fail(ctrl, -ENODEV, "fatal status during %s on queue %u, CSTS 0x%08x",
				what, qp->qid, csts);
	return 0;
}

int
nvme_wait(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what, int cid,
		struct nvme_cqe *out)
{
	uint64_t deadline = nvme_deadline(ctrl->timeout_ms);
	uint64_t look_at_status = nvme_deadline(1);
	struct nvme_cqe cqe;
	bool expired;
	int ret;

	do {
		/* The clock before the queue, so that the last look is never too early. */
		expired = nvme_expired(deadline);
		while (nvme_reap(ctrl, qp, &cqe)) {
			if ((int)NVME_GET(cqe.dw3, NVME_CQE_CID) != cid)
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
			ctrl->timeout_ms, what, qp->qid, nvme_reg_read(ctrl, NVME_REG_CSTS));
}

int
nvme_command(struct nvme_ctrl *ctrl, struct nvme_qpair *qp, const char *what,
		struct nvme_sqe *cmd, struct nvme_cqe *cqe)
{
	int cid = nvme_sq_post(qp, cmd);

	if (cid < 0)
		return nvme_fail(ctrl, cid, "%s: submission queue %u is full", what, qp->qid);
	nvme_sq_ring(qp);

	return nvme_wait(ctrl, qp, what, cid, cqe);
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
nvme_get_log(struct nvme_ctrl *ctrl, enum nvme_lid lid, uint32_t len, bool retain_event)
{
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_GET_LOG_PAGE,
		.nsid = NVME_NSID_ALL,
		.prp1 = ctrl->buf.iova,
		.cdw10 = NVME_SET(lid, NVME_LOG_LID) | NVME_SET(retain_event, NVME_LOG_RAE) |
			NVME_SET(len / sizeof(uint32_t) - 1, NVME_LOG_NUMDL),
	};

	memset(ctrl->buf.addr, 0, NVME_BUF_SIZE);
	return nvme_command(ctrl, &ctrl->admin, "Get Log Page", &cmd, NULL);
}

static int
nvme_identify_ctrl(struct nvme_ctrl *ctrl)
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
	ctrl->aerl = id->aerl;
	ctrl->elpe = id->elpe;
	ctrl->has_compare = rte_le_to_cpu_16(id->oncs) & NVME_ONCS_COMPARE;
	ctrl->shutdown_ms = RTE_MAX(ctrl->timeout_ms, rte_le_to_cpu_32(id->rtd3e) / 1000);

	return 0;
}

static int
nvme_identify_ns(struct nvme_ctrl *ctrl)
{
	const struct nvme_id_ns *ns = ctrl->buf.addr;
	const struct nvme_lbaf *format;
	int ret;

	ret = nvme_identify(ctrl, NVME_CNS_ACTIVE_NAMESPACES, 0);
	if (ret != 0)
		return ret;
	ctrl->nsid = rte_le_to_cpu_32(*(const uint32_t *)ctrl->buf.addr);
	if (ctrl->nsid == 0)
		return nvme_fail(ctrl, -ENODEV, "has no active namespace to read from");

	ret = nvme_identify(ctrl, NVME_CNS_NAMESPACE, ctrl->nsid);
	if (ret != 0)
		return ret;
	format = &ns->lbaf[ns->flbas & NVME_FLBAS_INDEX_MASK];
	if (format->ms != 0 || format->lbads < 9 || (1u << format->lbads) > NVME_BUF_SIZE)
		return nvme_fail(ctrl, -ENOTSUP, "namespace %u has blocks of 2^%u bytes and %u of "
				"metadata: use a format of at most %u bytes without metadata",
				ctrl->nsid, format->lbads, rte_le_to_cpu_16(format->ms),
				NVME_BUF_SIZE);
	ctrl->block_size = 1u << format->lbads;
	ctrl->blocks = rte_le_to_cpu_64(ns->nsze);
	if (ctrl->blocks < nvme_io_blocks(ctrl))
		return nvme_fail(ctrl, -ENOSPC, "namespace %u is smaller than %u bytes",
				ctrl->nsid, NVME_BUF_SIZE);

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
	int ret;

	ret = nvme_mem_get(ctrl, &ctrl->buf, "nvme_buf", 0, NVME_BUF_SIZE);
	if (ret == 0)
		ret = nvme_enable(ctrl);
	if (ret == 0)
		ret = nvme_identify_ctrl(ctrl);
	if (ret == 0)
		ret = nvme_identify_ns(ctrl);
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
	/* What an earlier queue of this number left there would carry a phase of its own. */
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
		[NVME_NVM_COMPARE] = "Compare",
	};
	struct nvme_sqe cmd;

	nvme_io_prepare(ctrl, &cmd, opc, lba, buf);
	return nvme_command(ctrl, qp, names[opc], &cmd, NULL);
}

int
nvme_aer_submit(struct nvme_ctrl *ctrl)
{
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_ASYNC_EVENT,
		.cid = NVME_AER_CID + ctrl->aers_sent % (UINT16_MAX - NVME_AER_CID),
	};

	if (nvme_sq_post(&ctrl->admin, &cmd) < 0)
		return nvme_fail(ctrl, -ENOSPC, "Asynchronous Event Request: queue 0 is full");
	ctrl->aers_sent++;
	nvme_sq_ring(&ctrl->admin);

	return 0;
}

int
nvme_aer_poll(struct nvme_ctrl *ctrl, struct nvme_event *event, uint32_t ms)
{
	uint64_t deadline = nvme_deadline(ms);
	struct nvme_cqe cqe;
	bool expired;

	do {
		expired = nvme_expired(deadline);
		while (ctrl->events_count == 0 && nvme_reap(ctrl, &ctrl->admin, &cqe))
			;
		if (ctrl->events_count > 0) {
			*event = ctrl->events[0];
			ctrl->events_count--;
			memmove(ctrl->events, ctrl->events + 1,
					ctrl->events_count * sizeof(ctrl->events[0]));
			return 0;
		}
		rte_pause();
	} while (!expired);

	return nvme_fail(ctrl, -ETIMEDOUT, "waited %u ms for an asynchronous event", ms);
}
