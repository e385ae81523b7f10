/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * The primary process. It reads from all drives all the time, one command at a time on each, and
 * verifies every block: a block holds its own number and the number of its drive. Between two
 * rounds of reads it executes one command from stdin and answers with one line of JSON on stdout:
 *
 *   examine        on each drive, check COMMAND, CSTS, an admin command, a read; takes no EAL lock
 *   check          the same, and a read on a new queue pair
 *   recover        set bus mastering, reset the controllers that failed, resume their reads
 *   stat           file descriptors, memory and shared memory of this process
 *   lock S         whether EAL's locks in shared memory can be taken within S seconds
 *   rate MS        count the reads in MS milliseconds
 *   pause, resume  stop reading, start again
 *   quit           exit with the drives attached; the end of input stops and detaches them first
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_eal_memconfig.h>
#include <rte_errno.h>
#include <rte_malloc.h>

#include "workload.h"

#define PRIMARY_QID 1
#define PRIMARY_QID_CHECK 2

static struct workload_drive *drives;
static bool primary_paused;
/* Queue pairs for secondaries, on each drive: it must go on when this process ends. */
static unsigned int primary_queues;

/* Set bus mastering, reset the controller, create the queues: first start and recovery. */
static int
primary_start(struct workload_drive *drive)
{
	struct nvme_ctrl *ctrl = &drive->ctrl;
	struct nvme_qpair qp;
	unsigned int qid;
	int ret;

	if (rte_pci_set_bus_master(drive->pci, true) != 0)
		return nvme_fail(ctrl, -EIO, "cannot set bus mastering");
	ret = nvme_disable(ctrl);
	if (ret == 0)
		ret = nvme_bring_up(ctrl);
	if (ret == 0)
		ret = nvme_qpair_create(ctrl, &drive->ioq, PRIMARY_QID);
	if (ret == 0)
		drive->buf = PRIMARY_QID;
	for (qid = WORKLOAD_QID; ret == 0 && qid < WORKLOAD_QID + primary_queues; qid++)
		ret = nvme_qpair_create(ctrl, &qp, qid);
	if (ret == 0)
		memcpy(nvme_buf(ctrl, WORKLOAD_BUF_DRIVE).addr, drive, sizeof(*drive));
	drive->failed = ret != 0;

	return ret;
}

/* Read on a new queue pair. */
static int
primary_read_new_qpair(struct workload_drive *drive)
{
	struct nvme_ctrl *ctrl = &drive->ctrl;
	struct nvme_qpair qp;
	int ret;

	ret = nvme_qpair_create(ctrl, &qp, PRIMARY_QID_CHECK);
	if (ret == 0)
		ret = workload_read(drive, &qp);
	return ret == 0 ? nvme_qpair_delete(ctrl, &qp) : ret;
}

/* Return what is wrong with a drive, or NULL. */
static const char *
primary_examine(struct workload_drive *drive)
{
	struct nvme_ctrl *ctrl = &drive->ctrl;
	static char text[320];
	uint16_t command = 0;
	uint32_t csts;
	int sysfs;

	sysfs = workload_command(drive->pci);
	rte_pci_read_config(drive->pci, &command, sizeof(command), CONFIG_COMMAND);
	if (sysfs < 0 || !(sysfs & CONFIG_COMMAND_MASTER) || !(command & CONFIG_COMMAND_MASTER)) {
		snprintf(text, sizeof(text), "%s: bus mastering is off: COMMAND is 0x%04x in sysfs, "
				"0x%04x by rte_pci_read_config", drive->pci->name, sysfs & 0xffff,
				command);
		return text;
	}
	csts = nvme_reg_read(ctrl, NVME_REG_CSTS);
	if (!drive->failed && (csts == NVME_REG_GONE || NVME_GET(csts, NVME_CSTS_CFS) ||
			!NVME_GET(csts, NVME_CSTS_RDY))) {
		nvme_fail(ctrl, -EIO, "controller not ready: CSTS is 0x%08x", csts);
		drive->failed = true;
	}
	if (!drive->failed && (nvme_identify(ctrl, NVME_CNS_CONTROLLER, 0) != 0 ||
			workload_read(drive, &drive->ioq) != 0))
		drive->failed = true;

	return drive->failed ? ctrl->error : NULL;
}

static const char *
primary_check(struct workload_drive *drive)
{
	const char *error = primary_examine(drive);

	if (error != NULL || primary_read_new_qpair(drive) == 0)
		return error;
	drive->failed = true;

	return drive->ctrl.error;
}

static const char *
primary_recover(struct workload_drive *drive)
{
	if (primary_examine(drive) == NULL || primary_start(drive) == 0)
		return NULL;
	return drive->ctrl.error;
}

/* Call a function for each drive; print the errors that it returns and the totals of reads. */
static void
primary_report(const char *(*function)(struct workload_drive *drive))
{
	uint64_t reads = 0, wrong = 0;
	const char *error, *sep = "";
	unsigned int d;

	printf("{\"errors\": [");
	for (d = 0; d < workload_devices_nb; d++) {
		error = function(&drives[d]);
		reads += drives[d].reads;
		wrong += drives[d].wrong;
		if (error == NULL)
			continue;
		printf("%s", sep);
		workload_print_string(error);
		sep = ", ";
	}
	printf("], \"reads\": %" PRIu64 ", \"wrong_reads\": %" PRIu64 "}\n", reads, wrong);
}

static void
primary_stat(void)
{
	struct rte_malloc_socket_stats heap = { .heap_allocsz_bytes = 0 };

	rte_malloc_get_socket_stats(0, &heap);
	printf("{\"fds\": %u, \"maps\": %u, \"private_kb\": %ld, \"heap_bytes\": %zu, "
			"\"heap_count\": %u, \"heap_total\": %zu}\n",
			workload_count_fds(""), workload_count_maps(""), workload_private_kb(),
			heap.heap_allocsz_bytes, heap.alloc_count, heap.heap_totalsz_bytes);
}

static void *
primary_take_locks(void *arg)
{
	/* The locks of the memory map, the heap and the memzones. */
	rte_mcfg_mem_write_lock();
	rte_mcfg_mem_write_unlock();
	rte_free(rte_malloc(NULL, 64, 0));
	rte_memzone_lookup("");
	sem_post(arg);
	return NULL;
}

/*
 * A secondary that dies while it holds a lock, even as a reader, blocks all later users of that
 * lock. So take the locks in a thread, which may block, and wait for it with a deadline.
 */
static void
primary_lock(unsigned int seconds)
{
	static sem_t taken;
	struct timespec until;
	pthread_t thread;
	bool is_free = false;

	sem_init(&taken, 0, 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	if (pthread_create(&thread, NULL, primary_take_locks, &taken) == 0) {
		is_free = sem_timedwait(&taken, &until) == 0;
		/* A blocked thread is left behind: its process has to be replaced anyway. */
		if (is_free)
			pthread_join(thread, NULL);
	}
	printf("{\"free\": %s}\n", is_free ? "true" : "false");
}

/* One read on each drive that works. */
static void
primary_step(void)
{
	unsigned int d;

	for (d = 0; d < workload_devices_nb && !primary_paused; d++) {
		if (!drives[d].failed)
			workload_read(&drives[d], &drives[d].ioq);
	}
}

static void
primary_rate(unsigned int ms)
{
	const uint64_t began = workload_now(), end = began + ms * UINT64_C(1000000);
	uint64_t before = 0, after = 0;
	unsigned int d, failed = 0;

	for (d = 0; d < workload_devices_nb; d++)
		before += drives[d].reads;
	while (workload_now() < end)
		primary_step();
	for (d = 0; d < workload_devices_nb; d++) {
		after += drives[d].reads;
		failed += drives[d].failed;
	}
	printf("{\"reads\": %" PRIu64 ", \"seconds\": %.6f, \"failed\": %u}\n", after - before,
			(workload_now() - began) / 1e9, failed);
}

/* Execute a command; return false to exit. */
static bool
primary_execute(char *line)
{
	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, "quit") == 0)
		return false;
	if (strcmp(line, "examine") == 0)
		primary_report(primary_examine);
	else if (strcmp(line, "check") == 0)
		primary_report(primary_check);
	else if (strcmp(line, "recover") == 0)
		primary_report(primary_recover);
	else if (strcmp(line, "stat") == 0)
		primary_stat();
	else if (strncmp(line, "lock ", 5) == 0)
		primary_lock(atoi(line + 5));
	else if (strncmp(line, "rate ", 5) == 0)
		primary_rate(atoi(line + 5));
	else if (strcmp(line, "pause") == 0 || strcmp(line, "resume") == 0)
		printf("{\"paused\": %s}\n", (primary_paused = *line == 'p') ? "true" : "false");
	else
		printf("{\"failed\": \"no such command\"}\n");
	fflush(stdout);

	return true;
}

static void
primary_stop(void)
{
	unsigned int d;

	for (d = 0; d < workload_devices_nb; d++) {
		/* Stop its DMA before the memory that it writes to is freed. */
		if (primary_queues == 0 && nvme_disable(&drives[d].ctrl) != 0)
			rte_pci_set_bus_master(drives[d].pci, false);
		rte_pci_unmap_device(drives[d].pci);
	}
}

int
primary_main(char **argv)
{
	const char *interval_us = workload_option(argv, "--interval"),
		*queues = workload_option(argv, "--queues");
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	unsigned int d;
	char line[64];

	if (workload_option(argv, "--wait") != NULL) {
		printf("{\"waiting\": true}\n");
		fflush(stdout);
		if (fgets(line, sizeof(line), stdin) == NULL)
			return EXIT_FAILURE;
	}
	primary_queues = queues != NULL ? atoi(queues) : 0;
	rte_errno = 0;
	workload_attach();
	drives = calloc(WORKLOAD_DRIVES_MAX, sizeof(*drives));
	if (drives == NULL || workload_devices_nb == 0) {
		printf("{\"failed\": \"no NVMe drive was attached: %s\"}\n", rte_strerror(rte_errno));
		rte_eal_cleanup();
		return EXIT_FAILURE;
	}
	for (d = 0; d < workload_devices_nb; d++) {
		drives[d].pci = workload_devices[d];
		drives[d].number = -1;
		if (nvme_ctrl_init(&drives[d].ctrl, drives[d].pci->name,
				drives[d].pci->mem_resource[0].addr, 1) == 0 &&
				primary_start(&drives[d]) == 0)
			continue;
		printf("{\"failed\": ");
		workload_print_string(drives[d].ctrl.error);
		printf("}\n");
		return EXIT_FAILURE;
	}
	printf("{\"phase\": \"ready\", \"ready\": %u}\n", workload_devices_nb);
	fflush(stdout);

	/* fgets() may buffer more than one line: the sender waits for each answer. */
	while (true) {
		primary_step();
		if (poll(&input, 1, 0) > 0 &&
				(fgets(line, sizeof(line), stdin) == NULL || !primary_execute(line)))
			break;
		if (interval_us != NULL && atoi(interval_us) > 0)
			usleep(atoi(interval_us));
	}
	printf("{\"phase\": \"stop\"}\n");
	fflush(stdout);
	if (feof(stdin))
		primary_stop();
	rte_eal_cleanup();

	return EXIT_SUCCESS;
}
