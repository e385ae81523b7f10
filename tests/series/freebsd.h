/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Included after DPDK's configuration, to compile its FreeBSD bus code on Linux; never run.
 * FreeBSD's own headers are empty files there: this has what DPDK uses of them.
 */

#include <stdint.h>

#undef RTE_EXEC_ENV_LINUX
#undef RTE_EXEC_ENV_IS_LINUX
#define RTE_EXEC_ENV_FREEBSD 1

/* machine/cpufunc.h: the port comes first, as it does not on Linux. */
unsigned char inb(unsigned int port);
unsigned short inw(unsigned int port);
unsigned int inl(unsigned int port);
void outb(unsigned int port, unsigned char data);
void outw(unsigned int port, unsigned short data);
void outl(unsigned int port, unsigned int data);

/* dev/pci/pcireg.h: values after the PCI specification */
#define PCIM_HDRTYPE 0x7f
#define PCIM_HDRTYPE_NORMAL 0
#define PCIM_HDRTYPE_BRIDGE 1
#define PCIM_HDRTYPE_CARDBUS 2
#define PCIR_MAX_BAR_0 5
#define PCIR_MAX_BAR_1 1
#define PCIR_MAX_BAR_2 0
#define PCIR_BAR(x) (0x10 + (x) * 4)
#define PCI_BAR_IO(x) (((x) & 1) == 1)

/* sys/pciio.h: the interface of pci(4), after its manual page; no ABI is meant */
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
};

struct pci_conf_io {
	uint32_t pat_buf_len;
	uint32_t num_patterns;
	void *patterns;
	uint32_t match_buf_len;
	uint32_t num_matches;
	struct pci_conf *matches;
	enum { PCI_GETCONF_MORE_DEVS } status;
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
	uint64_t pbi_base;
	uint64_t pbi_length;
};

#define PCIOCGETCONF 1
#define PCIOCREAD 2
#define PCIOCWRITE 3
#define PCIOCGETBAR 4
