/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <signal.h>

#include <rte_cycles.h>

#include "test.h"
#include "pci_uio_test.h"

/* Reads that prove that a secondary goes on reading. */
#define UIO_READS 50
#define UIO_READS_TIMEOUT_MS 10000

/* A secondary that reads on a queue pair made for it. */
static int
uio_spawn_reader(struct uio_dev *dev, unsigned int slot, struct nvme_qpair *qp, uint16_t qid)
{
	const struct uio_spawn_args args = { .arg = qid };
	struct nvme_mem data;
	int ret;

	if (nvme_qpair_create(&dev->ctrl, qp, qid) != 0 ||
			nvme_mem_get(&dev->ctrl, &data, "uio_data", qid, NVME_BUF_SIZE) != 0)
		return uio_flow_failed(dev, "a queue pair for a secondary to be created");
	ret = uio_spawn(dev, slot, "reads", &args);

	return ret == TEST_SUCCESS ? uio_wait_state(dev, slot, UIO_STATE_DONE) : ret;
}

/* Wait until a secondary has done some more reads. */
static int
uio_expect_reads(struct uio_dev *dev, unsigned int slot)
{
	const struct uio_peer *peer = &uio_shared->peers[slot];
	uint64_t deadline = nvme_deadline(UIO_READS_TIMEOUT_MS * uio_settings.time_scale);
	const uint32_t before = peer->reads;

	while (peer->reads - before < UIO_READS) {
		if (nvme_expired(deadline))
			return uio_not_ok("the secondary to go on reading", "%u reads, %s",
					peer->reads - before, peer->what);
		uio_flow_step(dev);
		rte_delay_us_sleep(1000);
	}
	return TEST_SUCCESS;
}

int
uio_case_io_secondary(struct uio_dev *dev)
{
	struct nvme_qpair qp;
	int ret;

	if (dev->ctrl.io_queues < UIO_QID_A)
		return uio_skip("%s grants only %u I/O queue", dev->pci->name, dev->ctrl.io_queues);
	ret = uio_spawn_reader(dev, 0, &qp, UIO_QID_A);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_reads(dev, 0);
	if (ret != TEST_SUCCESS)
		return ret;
	uio_go(0);
	ret = uio_wait_end(dev, 0, 0);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS && nvme_qpair_delete(&dev->ctrl, &qp) != 0)
		ret = uio_flow_failed(dev, "the queue pair of the secondary to be deleted");

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}

int
uio_case_io_killed(struct uio_dev *dev)
{
	struct nvme_qpair a, b;
	int ret;

	if (dev->ctrl.io_queues < UIO_QID_B)
		return uio_skip("%s grants only %u I/O queues", dev->pci->name,
				dev->ctrl.io_queues);
	ret = uio_spawn_reader(dev, 0, &a, UIO_QID_A);
	if (ret == TEST_SUCCESS)
		ret = uio_spawn_reader(dev, 1, &b, UIO_QID_B);
	if (ret != TEST_SUCCESS)
		return ret;

	uio_kill(0, SIGKILL);
	ret = uio_wait_end(dev, 0, -SIGKILL);
	if (ret == TEST_SUCCESS)
		ret = uio_check_bus_master(dev);
	if (ret == TEST_SUCCESS)
		ret = uio_expect_reads(dev, 1);
	if (ret != TEST_SUCCESS)
		return ret;
	uio_go(1);
	ret = uio_wait_end(dev, 1, 0);
	if (ret == TEST_SUCCESS && (nvme_qpair_delete(&dev->ctrl, &a) != 0 ||
			nvme_qpair_delete(&dev->ctrl, &b) != 0))
		ret = uio_flow_failed(dev, "the queue pairs of the secondaries to be deleted");

	return ret == TEST_SUCCESS ? uio_check(dev) : ret;
}
