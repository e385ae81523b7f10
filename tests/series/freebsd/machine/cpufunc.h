/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/* FreeBSD's port instructions take the port first, as Linux's do not. */
#ifndef STUB_MACHINE_CPUFUNC_H
#define STUB_MACHINE_CPUFUNC_H

unsigned char inb(unsigned int port);
unsigned short inw(unsigned int port);
unsigned int inl(unsigned int port);
void outb(unsigned int port, unsigned char data);
void outw(unsigned int port, unsigned short data);
void outl(unsigned int port, unsigned int data);

#endif
