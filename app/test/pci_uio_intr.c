/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <rte_cycles.h>
#include <rte_interrupts.h>

#include "test.h"
#include "pci_uio_test.h"

#define CONFIG_INTERRUPT_PIN 0x3d

static volatile uint32_t uio_interrupts;

int
uio_case_intr_secondary(struct uio_dev *dev)
{
	const int32_t *result = uio_shared->peers[0].result;
	int ret = uio_come_and_go(dev, "interrupts", 0);

	if (ret == TEST_SUCCESS && (result[0] >= 0 || result[1] >= 0 || result[2] >= 0))
		ret = uio_not_ok("rte_intr_enable, _callback_register and _disable to fail",
				"%d, %d, %d", result[0], result[1], result[2]);
	return ret;
}

static void
uio_on_interrupt(void *arg __rte_unused)
{
	uio_interrupts++;
}

/*
 * Run a command of which the completion raises INTx, and wait for the callback. The completion is
 * consumed after that, not before: with the CQ head the controller lets go of INTx, and the kernel
 * does not report an interrupt that is gone by the time it looks.
 */
static int
uio_expect_interrupt(struct uio_dev *dev, const char *when)
{
	struct nvme_ctrl *ctrl = &dev->ctrl;
	struct nvme_sqe cmd = {
		.opc = NVME_ADMIN_IDENTIFY,
		.prp1 = ctrl->buf.iova,
		.cdw10 = NVME_CNS_CONTROLLER,
	};
	const uint32_t before = uio_interrupts;
	uint64_t deadline;
	int cid, ret;

	/* uio_pci_generic disabled INTx at the last interrupt: arm it again. */
	if (rte_intr_enable(dev->pci->intr_handle) != 0)
		return uio_not_ok("rte_intr_enable in the primary to work", "an error %s", when);
	nvme_reg_write(ctrl, NVME_REG_INTMC, UINT32_MAX);
	cid = nvme_sq_post(&ctrl->admin, &cmd);
	nvme_sq_ring(&ctrl->admin);
	deadline = nvme_deadline(ctrl->timeout_ms);
	while (uio_interrupts == before && !nvme_expired(deadline))
		rte_delay_us_sleep(1000);
	nvme_reg_write(ctrl, NVME_REG_INTMS, UINT32_MAX);

	ret = nvme_wait(ctrl, &ctrl->admin, "Identify", cid, NULL);
	if (ret != 0)
		return uio_not_ok("Identify to complete", "%s %s", ctrl->error, when);
	if (uio_interrupts == before)
		return uio_not_ok("an interrupt", "none %s", when);
	return TEST_SUCCESS;
}

int
uio_case_intr_primary(struct uio_dev *dev)
{
	struct rte_intr_handle *handle = dev->pci->intr_handle;
	uint8_t pin = 0;
	int ret;

	rte_pci_read_config(dev->pci, &pin, sizeof(pin), CONFIG_INTERRUPT_PIN);
	if (pin == 0)
		return uio_skip("%s has no INTx", dev->pci->name);
	ret = rte_intr_callback_register(handle, uio_on_interrupt, NULL);
	if (ret != 0)
		return uio_not_ok("rte_intr_callback_register in the primary to work", "%d", ret);

	ret = uio_expect_interrupt(dev, "before a secondary");
	if (ret == TEST_SUCCESS)
		ret = uio_come_and_go(dev, "return", 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_interrupt(dev, "after a secondary");

	rte_intr_disable(handle);
	rte_intr_callback_unregister_sync(handle, uio_on_interrupt, NULL);

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}
