/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* Included after DPDK's configuration, to compile its FreeBSD bus code on Linux; never run. */
#undef RTE_EXEC_ENV_LINUX
#undef RTE_EXEC_ENV_IS_LINUX
#define RTE_EXEC_ENV_FREEBSD 1
