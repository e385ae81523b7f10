/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#ifndef FAKE_DPDK_H
#define FAKE_DPDK_H

/**
 * @file
 * What app/test/nvme_ctrl.c uses of DPDK, for tests/unit/nvme_test.c: a little-endian CPU, memory
 * whose IOVA is its address, a clock of 1 kHz, and registers that the test imitates.
 */

#include <stdint.h>
#include <stdlib.h>

#define __rte_format_printf(text, first) __attribute__((format(printf, text, first)))
#define RTE_DIM(a) (sizeof(a) / sizeof((a)[0]))
#define RTE_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RTE_MAX(a, b) ((a) > (b) ? (a) : (b))
#define RTE_PTR_ADD(ptr, x) ((void *)((uintptr_t)(ptr) + (x)))
#define rte_le_to_cpu_16(x) ((uint16_t)(x))
#define rte_le_to_cpu_32(x) ((uint32_t)(x))
#define rte_le_to_cpu_64(x) ((uint64_t)(x))
#define rte_cpu_to_le_16 rte_le_to_cpu_16
#define rte_cpu_to_le_32 rte_le_to_cpu_32
#define rte_cpu_to_le_64 rte_le_to_cpu_64

#define RTE_MEMZONE_NAMESIZE 32
#define RTE_MEMZONE_IOVA_CONTIG 0
#define RTE_BAD_IOVA UINT64_MAX
#define SOCKET_ID_ANY -1
typedef uint64_t rte_iova_t;
struct rte_memzone {
	void *addr;
	rte_iova_t iova;
	size_t len;
};

/* The one that is reserved. */
static const struct rte_memzone *fake_memzone;

static inline const struct rte_memzone *
rte_memzone_lookup(const char *name)
{
	(void)name;
	return fake_memzone;
}

static inline const struct rte_memzone *
rte_memzone_reserve_aligned(const char *name, size_t len, int socket, unsigned int flags,
		unsigned int align)
{
	struct rte_memzone *mz = malloc(sizeof(*mz));

	(void)name, (void)socket, (void)flags;
	mz->addr = aligned_alloc(align, len);
	mz->iova = (uintptr_t)mz->addr;
	mz->len = len;
	fake_memzone = mz;
	return mz;
}

static inline int
rte_memzone_free(const struct rte_memzone *mz)
{
	if (mz == NULL)
		return -EINVAL;
	free(mz->addr);
	free((void *)(uintptr_t)mz);
	fake_memzone = NULL;
	return 0;
}

#define RTE_PROC_PRIMARY 0
#define rte_eal_process_type() RTE_PROC_PRIMARY
#define rte_errno errno
#define rte_strerror strerror
#define rte_pause() ((void)0)
#define rte_io_rmb() ((void)0)
#define rte_get_timer_hz() UINT64_C(1000)

uint64_t rte_get_timer_cycles(void);
void rte_delay_us_sleep(unsigned int us);
uint32_t rte_read32(const volatile void *addr);
void rte_write32(uint32_t value, volatile void *addr);

#endif /* FAKE_DPDK_H */
