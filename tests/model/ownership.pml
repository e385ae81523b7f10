/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Who has a UIO device: a primary process, two secondary processes that it shares its open files
 * with, and a second primary process. A step stands for what the named function of
 * drivers/bus/pci/linux/pci_uio_claim.c, or the kernel, does with a lock held. Each process may end
 * before each of its steps: after an exit, abort() or SIGKILL the kernel does the same.
 * `model` checks this, and that the check fails if a macro breaks a rule.
 */

#define PRIMARY 1
/* Who has a file open: a process, or a reply of the primary that no process has received yet. */
#define SECONDARY(n) (2 << (n))
#define REPLY(n) (8 << (n))

/* Who has /dev/uioX open, and the file with the lock, as the primary opened them. */
byte uio, lock;
bool second_has_lock, bus_master;
bool ended[2];
byte running = 4;
chan request = [2] of { bit };
chan reply[2] = [1] of { bool };

/* uio_pci_generic clears the bit when the last one closes the file. */
inline close_uio(who)
{
	d_step {
		if
		:: uio == (who) -> bus_master = false
		:: else
		fi;
		uio = uio & ~(who)
	}
}

/* pci_uio_release(), and the kernel when a process ends: /dev/uioX first, then the lock. */
inline release(who)
{
#ifdef LOCK_ENDS_FIRST
	lock = lock & ~(who);
	close_uio(who)
#else
	close_uio(who);
	lock = lock & ~(who)
#endif
}

active proctype primary()
{
	bit peer;

	/* pci_uio_lock(), pci_uio_open() */
	if
	:: atomic { lock == 0 && !second_has_lock -> lock = PRIMARY }
	:: goto done
	fi;
	if
	:: d_step { uio = PRIMARY; bus_master = true }
	:: goto done
	fi;
	do
	:: atomic { uio & PRIMARY -> assert(bus_master) } /* I/O */
	/* pci_uio_share_reply() */
	:: atomic { request?peer ->
		if
		:: ended[peer]
		:: !ended[peer] && (uio & PRIMARY) ->
			uio = uio | REPLY(peer);
#ifndef LOCK_IS_NOT_SHARED
			lock = lock | REPLY(peer);
#endif
			reply[peer]!true
		:: else -> reply[peer]!false
		fi }
	/* pci_uio_close() */
	:: uio & PRIMARY -> release(PRIMARY)
	:: break
	od;
done:
	release(PRIMARY);
	running--
}

active [2] proctype secondary()
{
	bool attached, asking, asked, files;
	bit self = _pid - 1;

	do
	/* pci_uio_share(): what the primary has mapped can be attached */
	:: atomic { !attached && (uio & PRIMARY) -> attached = true }
	/* pci_uio_share_next(): one request at a time */
	:: atomic { attached && !asked && !asking -> asked = true; asking = true; request!self }
	/* pci_uio_share_keep(): what was asked for, unless it has been detached since */
	:: atomic { reply[self]?files ->
		asking = false;
		if
#ifdef LATE_REPLY_IS_KEPT
		:: files ->
#else
		:: files && attached && asked ->
#endif
			files = false;
			uio = (uio | SECONDARY(self)) & ~REPLY(self);
			lock = (lock & REPLY(self) -> (lock | SECONDARY(self)) & ~REPLY(self) :
				lock)
		:: else
		fi }
		if
		:: files -> files = false; release(REPLY(self))
		:: else
		fi
	:: atomic { uio & SECONDARY(self) -> assert(attached && bus_master) } /* I/O */
#ifdef SECONDARY_OPENS
	/* Its own open file of /dev/uioX, as before the fix: the kernel clears the bit. */
	:: attached -> bus_master = false; break
#endif
	/* pci_uio_close() */
	:: attached ->
		release(SECONDARY(self));
		d_step { attached = false; asked = false }
	:: break
	od;
	/* The kernel closes its files, and those that its socket has not delivered. */
	atomic { attached = false; asked = false; asking = false; ended[self] = true };
	release(REPLY(self));
	release(SECONDARY(self));
	running--
}

active proctype second_primary()
{
	/* pci_uio_lock(); refused while another process has the lock */
	if
	:: atomic { lock == 0 -> second_has_lock = true }
	:: goto refused
	fi;
	assert(uio == 0);
	bus_master = true;
	assert(uio == 0);
	bus_master = false;
	second_has_lock = false;
refused:
	running--
}

/* When all have ended, nothing is left open, and the device does no DMA. */
active proctype check_end()
{
	atomic { running == 0 -> assert(uio == 0 && lock == 0 && !bus_master) }
}
