/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <errno.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_pci.h>
#include <rte_telemetry.h>

#include "pci_init.h"

static int
uio_add_name(const struct rte_pci_addr *addr, int config_fd __rte_unused, void *arg)
{
	char name[PCI_PRI_STR_SIZE + 1];

	rte_pci_device_name(addr, name, sizeof(name));
	rte_tel_data_add_array_string(arg, name);
	return 0;
}

static int
uio_handle_list(const char *cmd __rte_unused, const char *params __rte_unused,
		struct rte_tel_data *d)
{
	rte_tel_data_start_array(d, RTE_TEL_STRING_VAL);
	pci_uio_walk(NULL, uio_add_name, d);
	return 0;
}

static int
uio_add_command(const struct rte_pci_addr *addr __rte_unused, int config_fd, void *arg)
{
	uint16_t command;

	if (pread(config_fd, &command, sizeof(command), RTE_PCI_COMMAND) != sizeof(command))
		return -EIO;
	command = rte_le_to_cpu_16(command);

	rte_tel_data_start_dict(arg);
	rte_tel_data_add_dict_int(arg, "command", command);
	rte_tel_data_add_dict_int(arg, "bus_master", !!(command & RTE_PCI_COMMAND_MASTER));
	return 1;
}

static int
uio_handle_info(const char *cmd __rte_unused, const char *params, struct rte_tel_data *d)
{
	struct rte_pci_addr addr;
	int ret;

	if (params == NULL || rte_pci_addr_parse(params, &addr) != 0)
		return -EINVAL;
	ret = pci_uio_walk(&addr, uio_add_command, d);
	return ret == 0 ? -ENODEV : RTE_MIN(ret, 0);
}

RTE_INIT(pci_uio_telemetry)
{
	rte_telemetry_register_cmd("/pci/uio/list", uio_handle_list,
		"Returns the PCI devices that this process has open through UIO. Takes no parameters");
	rte_telemetry_register_cmd("/pci/uio/info", uio_handle_info,
		"Returns COMMAND and bus mastering of a PCI device on UIO. Parameters: PCI address");
}
