/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

/*
 * A secondary process must not disturb a device on uio_pci_generic that its primary drives.
 *
 * The kernel clears the bus master bit of a device whenever a process closes its own open of
 * /dev/uioX. A secondary that opened it would therefore, when it ends, stop the DMA of the
 * primary. The test drives NVMe controllers in the primary, runs secondaries that end in every
 * way, and checks after each that the bit is set and that data still flow.
 *
 * Run as root with hugepages, on drives bound to uio_pci_generic, each of which is named with -a:
 *   dpdk-test -l 0-1 --iova-mode=pa -a <BDF> pci_uio_secondary_autotest
 * The drives are reset, and never written to. The controllers are left disabled, bus master and
 * INTx disable as they were found; what could not be restored fails the test.
 * The environment variables are those of uio_settings_read().
 *
 * There is a suite for each device. Beside the report of the suite runner, each verdict is one line
 * of the Test Anything Protocol, with what was expected and what was seen.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_debug.h>
#include <rte_pci.h>
#include <rte_string_fns.h>

#include "test.h"
#include "pci_uio_test.h"

/* A case that takes longer hangs: a secondary that was killed may have held a lock of EAL. */
#define UIO_WATCHDOG_S 120

/* Elsewhere the bus maps resourceX of an I/O BAR, and of no other BAR. */
#ifdef RTE_ARCH_X86
#define UIO_PORT_IS_FILE true
#else
#define UIO_PORT_IS_FILE false
#endif

struct uio_settings uio_settings;

/* A case on a device. */
struct uio_item {
	const struct uio_case *c;
	struct uio_dev *dev;
};
/* Of one device, and those of release. */
#define UIO_CASES_MAX 96
static struct uio_item uio_items[(UIO_DEVICES_MAX + 1) * UIO_CASES_MAX];
static unsigned int uio_items_nb;
/* That of all, those of the devices, and release; each with room for its cases and an end. */
static union {
	struct unit_test_suite suite;
	char room[sizeof(struct unit_test_suite) +
		(UIO_CASES_MAX + 1) * sizeof(struct unit_test_case)];
} uio_suites[UIO_DEVICES_MAX + 2];

static TAILQ_HEAD(, uio_case_table) uio_tables = TAILQ_HEAD_INITIALIZER(uio_tables);

static int uio_verdict; /* TEST_SUCCESS: none yet */
static char uio_why[640];
const struct uio_case *uio_current;

static unsigned int uio_passed, uio_failed, uio_skipped;
volatile sig_atomic_t uio_signal_number;

/* Read a number from the environment; a wrong one is as a name that is not known. */
static uint32_t
uio_setting(const char *name, uint32_t min, uint32_t max, uint32_t initial, unsigned int *known)
{
	const char *text = getenv(name);
	char *end = NULL;
	const unsigned long number = text != NULL ? strtoul(text, &end, 10) : initial;

	*known += text != NULL && end != text && *end == '\0' && number >= min && number <= max;
	return number;
}

static bool
uio_settings_read(void)
{
	unsigned int known, given = 0;
	size_t i;

	uio_settings.cases = getenv(UIO_ENV "CASES");
	known = uio_settings.cases != NULL;
	if (known && uio_settings.cases[0] == '\0')
		uio_settings.cases = NULL;
	uio_settings.repeat = uio_setting(UIO_ENV "REPEAT", 1, 1000000, 100, &known);
	uio_settings.time_scale = uio_setting(UIO_ENV "TIME_SCALE", 1, 1000, 1, &known);
	uio_settings.undefined = uio_setting(UIO_ENV "UNDEFINED", 0, 1, 0, &known);
	for (i = 0; environ[i] != NULL; i++)
		given += strncmp(environ[i], UIO_ENV, strlen(UIO_ENV)) == 0 &&
			strncmp(environ[i], UIO_ENV_ROLE "=", strlen(UIO_ENV_ROLE "=")) != 0;
	/* A misspelt name would otherwise silently do nothing. */
	if (given != known)
		printf("# " UIO_ENV "* in the environment: not valid; there are CASES (parts of "
				"names or claims), REPEAT (1 to 1000000), TIME_SCALE (1 to 1000), "
				"UNDEFINED (0 or 1)\n");
	return given == known;
}

void
uio_register_table(struct uio_case_table *table)
{
	struct uio_case_table *later;

	TAILQ_FOREACH(later, &uio_tables, next) {
		if (later->order > table->order)
			break;
	}
	if (later != NULL)
		TAILQ_INSERT_BEFORE(later, table, next);
	else
		TAILQ_INSERT_TAIL(&uio_tables, table, next);
}

const struct uio_role *
uio_find_role(const char *name)
{
	struct uio_case_table *table;
	unsigned int i;

	TAILQ_FOREACH(table, &uio_tables, next) {
		for (i = 0; i < table->roles_nb; i++) {
			if (strcmp(table->roles[i].name, name) == 0)
				return &table->roles[i];
		}
	}
	return NULL;
}

bool
uio_ok(void)
{
	return uio_verdict == TEST_SUCCESS;
}

bool
uio_expect(bool holds, const char *what, ...)
{
	static const char before[] = "expected ";
	va_list ap;

	/* The first failure is the cause of those that follow. */
	if (holds || !uio_ok())
		return uio_ok();
	uio_verdict = TEST_FAILED;
	strlcpy(uio_why, before, sizeof(uio_why));
	va_start(ap, what);
	vsnprintf(uio_why + strlen(before), sizeof(uio_why) - strlen(before), what, ap);
	va_end(ap);

	return false;
}

bool
uio_skip(const char *reason, ...)
{
	va_list ap;

	if (!uio_ok())
		return false;
	uio_verdict = TEST_SKIPPED;
	va_start(ap, reason);
	vsnprintf(uio_why, sizeof(uio_why), reason, ap);
	va_end(ap);

	return false;
}

static void
uio_no_verdict(void)
{
	uio_verdict = TEST_SUCCESS;
	uio_why[0] = '\0';
}

static void
uio_on_signal(int sig)
{
	uio_signal_number = sig;
}

/* The primary hangs: stop all that could still change memory or the device. */
static void
uio_on_watchdog(int sig __rte_unused)
{
	static const char text[] = "\nBail out! watchdog: this case does not end: ";
	struct uio_dev *dev;
	unsigned int slot;
	uint32_t cc;

	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0 ||
			(uio_current != NULL && write(STDOUT_FILENO, uio_current->name,
				strlen(uio_current->name)) < 0) ||
			write(STDOUT_FILENO, "\n", 1) < 0)
		uio_signal_number = SIGALRM;
	for (slot = 0; slot < UIO_SLOTS; slot++)
		uio_kill(slot, SIGKILL);
	UIO_FOREACH_DEVICE(dev) {
		if (!dev->is_nvme || dev->ctrl.bar == NULL)
			continue;
		cc = nvme_reg_read(&dev->ctrl, NVME_REG_CC);
		if (cc != NVME_REG_GONE)
			nvme_reg_write(&dev->ctrl, NVME_REG_CC, cc & ~NVME_CC_EN);
	}
	_exit(EXIT_FAILURE);
}

/* Take the signals that end a test, or give them back. */
static void
uio_handle_signals(bool take)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGALRM };
	static struct sigaction before[RTE_DIM(signals)];
	struct sigaction action = { .sa_flags = SA_RESTART };
	size_t i;

	for (i = 0; i < RTE_DIM(signals); i++) {
		action.sa_handler = signals[i] == SIGALRM ? uio_on_watchdog : uio_on_signal;
		sigaction(signals[i], take ? &action : &before[i], take ? &before[i] : NULL);
	}
}

/* Run the secondary of a row. The kernel counts opens of /dev/uioX that no process admits. */
static void
uio_run_row(struct uio_dev *dev)
{
	const struct uio_case *c = uio_current;

	if (c->flags & UIO_CASE_BESIDE)
		uio_start(dev, 1, "return", NULL, UIO_STATE_DONE);
	uio_spawn(dev, 0, c->role, &c->args);
	uio_wait_state(0, c->flags & UIO_CASE_FAILS ? UIO_STATE_NOT_ATTACHED : UIO_STATE_DONE);
	if (c->flags & UIO_CASE_KILL)
		uio_kill(0, -c->end);
	uio_end(0, c->end);
	if (c->flags & UIO_CASE_FAILS)
		uio_expect_nothing_left(0);
	if (c->flags & UIO_CASE_BESIDE) {
		uio_check_bus_master(dev);
		uio_end(1, 0);
	}
	if (c->check != NULL)
		c->check(dev);
	if (c->flags & UIO_CASE_NO_OPEN)
		uio_expect_no_open(0);
}

static void
uio_run_release(struct uio_dev *dev)
{
	char broken[256] = "";

	/* Fail if something broke it after its last case, or the reads in flight then. */
	if (dev->works && !dev->dead && uio_signal_number == 0 &&
			(uio_look(dev) != 0 || uio_traffic_stop(dev) != 0))
		strlcpy(broken, dev->ctrl.error, sizeof(broken));
	/* A failure of the release is reported first: it says how to repair. */
	uio_release(dev);
	uio_expect(broken[0] == '\0', "a device that works to the end, got %s", broken);
	if (uio_passed == 0 && uio_signal_number == 0)
		uio_skip("nothing was tested");
}

/* Of each device, after all others. */
static const struct uio_case uio_release_case = {
	.name = "release", .run = uio_run_release,
	.claim = "the device is left as it was found",
};

/* Run a case, if it can be run. What it left broken counts against it, and is recovered. */
static void
uio_attempt(const struct uio_case *c, struct uio_dev *dev)
{
	bool works;

	if ((c->flags & UIO_CASE_NVME) && dev->unsuitable[0] != '\0')
		uio_skip("%s", dev->unsuitable);
	if (dev->ctrl.io_queues < c->queues)
		uio_skip("%s grants only %u I/O queue pairs", dev->name, dev->ctrl.io_queues);
	if ((c->flags & UIO_CASE_PORT) && !UIO_PORT_IS_FILE)
		uio_skip("I/O ports are mapped without %s on this architecture", dev->uio_path);
	if ((c->flags & UIO_CASE_EXIT) && dev->keeps_bus_master)
		uio_skip("this kernel does not clear bus master when %s is closed", dev->uio_path);
	if (!uio_ok() || !uio_ready(dev))
		return;
	if (c->run != NULL)
		c->run(dev);
	else
		uio_run_row(dev);
	if (dev->mapped)
		uio_check(dev);
	uio_reap();
	if (!dev->mapped && !dev->dead && uio_remap(dev))
		uio_ready(dev);
	if (uio_signal_number != 0 || dev->dead)
		return;
	works = uio_look(dev) == 0;
	if (works && uio_verdict != TEST_FAILED)
		return;
	if (uio_verdict == TEST_SKIPPED)
		uio_no_verdict();
	uio_expect(false, "a device that works after the case, got %s", dev->ctrl.error);
	printf("# recovering %s\n", works ? dev->name : dev->ctrl.error);
	if (uio_recover(dev) != 0)
		dev->dead = true;
}

/* One case of a suite, and its line. */
static int
uio_run_case(const void *data)
{
	const struct uio_item *item = data;
	const struct uio_case *c = item->c;
	const unsigned int number = uio_passed + uio_failed + uio_skipped + 1;
	const struct uio_dev *dev;
	uint32_t slow_ms = 0;
	char on[32] = "";

	/*
	 * These are scaled already. A recovery that fails waits for them up to six times, and a
	 * case may try two.
	 */
	UIO_FOREACH_DEVICE(dev)
		slow_ms = RTE_MAX(slow_ms, RTE_MAX(dev->ctrl.ready_ms, dev->ctrl.shutdown_ms));
	/* Of several devices, the line says which. */
	if (uio_devices_nb > 1)
		snprintf(on, sizeof(on), " [%s]", item->dev->name);
	uio_no_verdict();
	uio_current = c;
	alarm((UIO_WATCHDOG_S + (c->flags & UIO_CASE_REPEAT ? 2 * uio_settings.repeat : 0)) *
			uio_settings.time_scale + 12 * slow_ms / 1000);
	if (c == &uio_release_case)
		c->run(item->dev);
	else if (uio_signal_number == 0)
		uio_attempt(c, item->dev);
	if (c != &uio_release_case && uio_signal_number != 0) {
		uio_no_verdict();
		uio_skip("signal %d ended the test", (int)uio_signal_number);
	}
	alarm(0);

	uio_passed += uio_verdict == TEST_SUCCESS;
	uio_failed += uio_verdict == TEST_FAILED;
	uio_skipped += uio_verdict == TEST_SKIPPED;
	printf("%sok %u - %s%s%s%s\n", uio_verdict == TEST_FAILED ? "not " : "", number, c->claim,
			on, uio_verdict == TEST_SKIPPED ? " # SKIP " :
			uio_verdict == TEST_FAILED ? ": " : "", uio_why);
	fflush(stdout);

	return uio_verdict;
}

/* Whether a case is asked for. */
static bool
uio_case_is_wanted(const struct uio_case *c, const struct uio_dev *dev)
{
	const struct uio_dev *other;
	char *list, *part, *save = NULL;
	bool wanted = false, has_drive = false;

	UIO_FOREACH_DEVICE(other)
		has_drive |= other->is_nvme;
	if (!dev->is_nvme && ((c->flags & UIO_CASE_NVME) ||
			((c->flags & UIO_CASE_END) && has_drive)))
		return false;
	if (uio_settings.cases == NULL)
		return true;
	list = strdup(uio_settings.cases);
	RTE_VERIFY(list != NULL);
	for (part = strtok_r(list, ",", &save); part != NULL; part = strtok_r(NULL, ",", &save))
		wanted |= strstr(c->name, part) != NULL || strstr(c->claim, part) != NULL;
	free(list);

	return wanted;
}

static void
uio_add_case(struct unit_test_suite *suite, const struct uio_case *c, struct uio_dev *dev)
{
	struct uio_item *item = &uio_items[uio_items_nb++];

	RTE_VERIFY(suite->total < UIO_CASES_MAX);
	item->c = c;
	item->dev = dev;
	/* The total is for the next row; the runner counts anew. */
	suite->unit_test_cases[suite->total++] = (struct unit_test_case)
		TEST_CASE_NAMED_WITH_DATA(c->name, NULL, NULL, uio_run_case, item);
}

static int
uio_run_all(void)
{
	struct unit_test_suite *parts[UIO_DEVICES_MAX + 2] = { NULL };
	struct unit_test_suite *all = &uio_suites[0].suite, *suite = all;
	const struct uio_case_table *table;
	const struct uio_case *c;
	struct uio_dev *dev;
	unsigned int d = 0;
	int ret;

	memset(uio_suites, 0, sizeof(uio_suites));
	uio_passed = uio_failed = uio_skipped = uio_items_nb = 0;
	all->suite_name = "pci_uio_secondary";
	all->unit_test_suites = parts;
	UIO_FOREACH_DEVICE(dev) {
		suite = parts[d] = &uio_suites[d + 1].suite;
		d++;
		suite->suite_name = dev->name;
		TAILQ_FOREACH(table, &uio_tables, next) {
			for (c = table->cases; c < table->cases + table->cases_nb; c++) {
				if (uio_case_is_wanted(c, dev))
					uio_add_case(suite, c, dev);
			}
		}
	}
	if (uio_items_nb == 0) {
		printf("# no case has \"%s\" in its name or claim; names are:\n",
				uio_settings.cases);
		TAILQ_FOREACH(table, &uio_tables, next) {
			for (c = table->cases; c < table->cases + table->cases_nb; c++)
				printf("#   %-22s %s\n", c->name, c->claim);
		}
		return TEST_FAILED;
	}
	suite = parts[d] = &uio_suites[d + 1].suite;
	suite->suite_name = "release";
	UIO_FOREACH_DEVICE(dev)
		uio_add_case(suite, &uio_release_case, dev);

	printf("1..%u\n", uio_items_nb);
	fflush(stdout);
	ret = unit_test_suite_runner(all);
	printf("pci_uio_secondary: %u passed, %u failed, %u skipped\n", uio_passed, uio_failed,
			uio_skipped);
	fflush(stdout);

	return ret;
}

/* Print the devices, and what a secondary of this DPDK does to the first when it attaches. */
static void
uio_print_devices(void)
{
	struct uio_dev *dev;

	UIO_FOREACH_DEVICE(dev) {
		printf("# device %s %04x:%04x %s COMMAND 0x%04x\n", dev->name,
				dev->pci->id.vendor_id, dev->pci->id.device_id, dev->uio_path,
				dev->command_found);
		if (dev->keeps_bus_master)
			printf("# %s: this kernel keeps bus master when %s is closed\n", dev->name,
					dev->uio_path);
		if (dev->unsuitable[0] != '\0')
			printf("# %s: no I/O: %s\n", dev->name, dev->unsuitable);
		else if (dev->is_nvme)
			printf("# %s: namespace %u of %" PRIu64 " blocks of %u bytes, %u I/O "
					"queues\n", dev->name, dev->ctrl.nsid, dev->ctrl.blocks,
					dev->ctrl.block_size, dev->ctrl.io_queues);
	}
	dev = uio_devices;
	if (uio_ready(dev) && uio_run_secondary(dev, 0, "return"))
		printf("# base: a secondary %s /dev/uio*; COMMAND after its end: 0x%04x\n",
				uio_expect_no_open(0) ? "does not open" : "opens",
				uio_command_sysfs(dev->name));
	else
		printf("# base: not known, %s\n", uio_why);
	/* Without the fix, that secondary has stopped it. */
	dev->works = false;
	uio_reap();
	fflush(stdout);
}

int
test_pci_uio_secondary(void)
{
	struct uio_dev *dev;
	int ret;

	if (!uio_settings_read())
		return TEST_FAILED;
	if (getenv(UIO_ENV_ROLE) != NULL)
		return uio_role_main();

	uio_no_verdict();
	uio_signal_number = 0;
	uio_handle_signals(true);
	if (uio_devices_attach() && uio_shared_reserve()) {
		uio_print_devices();
		ret = uio_run_all();
	} else {
		ret = uio_verdict;
		printf(ret == TEST_SKIPPED ? "1..0 # SKIP %s\n" : "# %s\n", uio_why);
	}
	UIO_FOREACH_DEVICE(dev) {
		uio_no_verdict();
		if (dev->mapped && !uio_release(dev)) {
			printf("# %s\n", uio_why);
			ret = TEST_FAILED;
		}
	}
	uio_shared_free();
	uio_driver_unregister();
	uio_handle_signals(false);
	/* Now the process may exit as the signal asked. */
	if (uio_signal_number != 0)
		raise(uio_signal_number);

	return ret;
}

REGISTER_DRIVER_TEST(pci_uio_secondary_autotest, test_pci_uio_secondary);
