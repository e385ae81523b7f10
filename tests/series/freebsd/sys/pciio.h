/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* The parts of pci(4)'s interface that DPDK uses, after its manual page; no ABI is meant. */
#ifndef STUB_SYS_PCIIO_H
#define STUB_SYS_PCIIO_H

#include <stdint.h>

struct pcisel {
	uint32_t pc_domain;
	uint8_t pc_bus;
	uint8_t pc_dev;
	uint8_t pc_func;
};

struct pci_conf {
	struct pcisel pc_sel;
	uint8_t pc_hdr;
	uint16_t pc_subvendor;
	uint16_t pc_subdevice;
	uint16_t pc_vendor;
	uint16_t pc_device;
	uint8_t pc_class;
	uint8_t pc_subclass;
	uint8_t pc_progif;
	uint8_t pc_revid;
	char pd_name[17];
	unsigned long pd_unit;
};

typedef enum {
	PCI_GETCONF_LAST_DEVICE,
	PCI_GETCONF_LIST_CHANGED,
	PCI_GETCONF_MORE_DEVS,
	PCI_GETCONF_ERROR
} pci_getconf_status;

struct pci_conf_io {
	uint32_t pat_buf_len;
	uint32_t num_patterns;
	void *patterns;
	uint32_t match_buf_len;
	uint32_t num_matches;
	struct pci_conf *matches;
	uint32_t offset;
	uint32_t generation;
	pci_getconf_status status;
};

struct pci_io {
	struct pcisel pi_sel;
	int pi_reg;
	int pi_width;
	uint32_t pi_data;
};

struct pci_bar_io {
	struct pcisel pbi_sel;
	int pbi_reg;
	int pbi_enabled;
	uint64_t pbi_base;
	uint64_t pbi_length;
};

#define PCIOCGETCONF 1
#define PCIOCREAD 2
#define PCIOCWRITE 3
#define PCIOCGETBAR 4

#endif
