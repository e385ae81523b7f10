/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * Who has a UIO device: a primary process, secondary processes that it shares its open files
 * with, and a second primary process. A step stands for what the named function of
 * drivers/bus/pci/linux/pci_uio_claim.c, or the kernel, does with a lock held. Each process may end
 * before each of its steps: after an exit, abort() or SIGKILL the kernel does the same.
 * `model` checks this, and that the check fails if a macro breaks a rule.
 *
 * SECONDARIES is 2; or 1, which has another device as well and gets one of its replies too late.
 */

#define PRIMARY 1
/* Who has a file open: a process, or one of two replies that it has not received yet. */
#define SECONDARY(n) (2 << (n))
#define REPLY(n, which) (4 << (2 * (n) + (which)))
/* The number of an attach is 1 or 2 in turn. A request may also be for another device. */
#define OTHER 0

/* Who has /dev/uioX open, and the file with the lock, as the primary opened them. */
byte uio, lock;
bool second_has_lock, bus_master;
bool ended[2];
byte running = SECONDARIES + 2;
chan request = [2] of { bit, byte };
/* Which one has the files, or 0; the attach that it is for. */
chan reply[2] = [2] of { byte, byte };

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
	byte attach, which;

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
	:: atomic { request?peer,attach ->
		which = ((uio | lock) & REPLY(peer, 1) -> 2 : 1);
		if
		:: ended[peer]
		:: !ended[peer] && (uio & PRIMARY) && attach != OTHER ->
			assert(!((uio | lock) & REPLY(peer, which)));
			uio = uio | REPLY(peer, which);
#ifndef LOCK_IS_NOT_SHARED
			lock = lock | REPLY(peer, which);
#endif
			reply[peer]!which,attach
		:: else -> reply[peer]!0,attach
		fi;
		peer = 0; attach = 0; which = 0 }
	/* pci_uio_close() */
	:: uio & PRIMARY -> release(PRIMARY)
	:: break
	od;
done:
	release(PRIMARY);
	running--;
	/* a request to a process that has ended is lost */
end:	do
	:: atomic { request?peer,attach -> peer = 0; attach = 0 }
	od
}

active [SECONDARIES] proctype secondary()
{
	bool attached, asking, asked, timed_out, other;
	byte attach = 1, pending, answered, files;
	bit self = _pid - 1;

	do
	/* pci_uio_share(): what the primary has mapped can be attached */
	:: atomic { !attached && (uio & PRIMARY) -> attached = true;
		attach = (SECONDARIES == 1 -> 3 - attach : 1) }
	/* pci_uio_share_next(): one request at a time */
	:: atomic { attached && !asked && !asking ->
		asked = true; asking = true; pending = attach; request!self,attach }
	:: atomic { SECONDARIES == 1 && !other && !asking ->
		other = true; asking = true; pending = OTHER; request!self,OTHER }
	/* pci_uio_share_keep(): no reply came in time */
	:: atomic { SECONDARIES == 1 && asking && !timed_out -> timed_out = true; asking = false;
		pending = 0 }
	/* EAL closes a reply if no request is pending */
	:: atomic { reply[self]?files,answered;
		if
		:: asking ->
			asking = false;
			if
#ifdef REPLY_IS_FOR_ANY_REQUEST
			:: files && (pending == OTHER || attached) ->
#elif defined(LATE_REPLY_IS_KEPT)
			:: files && !(uio & SECONDARY(self)) ->
#else
			:: files && attached && answered == attach && !(uio & SECONDARY(self)) ->
#endif
				assert(answered == attach);
				uio = (uio | SECONDARY(self)) & ~REPLY(self, files);
				lock = (lock & REPLY(self, files) ->
					(lock | SECONDARY(self)) & ~REPLY(self, files) : lock);
				files = 0
			:: else
			fi;
			if
			:: pending != answered && pending == attach -> asked = false
			:: else
			fi;
			pending = 0
		:: else
		fi;
		answered = 0 }
		if
		:: files -> release(REPLY(self, files)); files = 0
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
	release(REPLY(self, 1));
	release(REPLY(self, 2));
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
