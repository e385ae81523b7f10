/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pci_uio_test.h"

struct uio_settings uio_settings;

/* What may be set. A number has a range; the list of cases has none. */
static const struct uio_setting {
	const char *name;
	uint32_t min, max, initial;
	const char *help;
} uio_settings_known[] = {
	{ "CASES", 0, 0, 0, "run only cases with one of these in their name or claim (a,b,...)" },
	{ "REPEAT", 1, 1000000, 100, "how many times a secondary comes and goes" },
	{ "WRITE", 0, 1, 0, "1: write, and put back, the last blocks of the media" },
	{ "TIME_SCALE", 1, 1000, 1, "factor on all deadlines, for slow machines" },
	{ "VERBOSE", 0, 1, 0, "1: show what secondaries print" },
};

static int
uio_settings_help(const char *wrong)
{
	size_t i;

	printf("# %s: cannot be; what may be set is:\n", wrong);
	for (i = 0; i < RTE_DIM(uio_settings_known); i++) {
		const struct uio_setting *s = &uio_settings_known[i];

		printf("#   " UIO_ENV "%-11s %s", s->name, s->help);
		if (s->max != 0)
			printf(" (%u to %u, else %u)", s->min, s->max, s->initial);
		printf("\n");
	}
	return -1;
}

/* Setting in a string of the environment, "PREFIX_NAME=value"; NULL when there is no such. */
static const struct uio_setting *
uio_setting_find(const char *env)
{
	const char *name = env + strlen(UIO_ENV);
	const size_t len = strcspn(name, "=");
	size_t i;

	for (i = 0; i < RTE_DIM(uio_settings_known); i++) {
		if (strlen(uio_settings_known[i].name) == len &&
				strncmp(uio_settings_known[i].name, name, len) == 0)
			return &uio_settings_known[i];
	}
	return NULL;
}

/* Value of a numeric setting; false when what is set is not one. */
static bool
uio_setting_number(const char *name, uint32_t *value)
{
	const struct uio_setting *s;
	char env[64], *end;
	const char *text;
	long number;

	snprintf(env, sizeof(env), UIO_ENV "%s", name);
	s = uio_setting_find(env);
	*value = s->initial;
	text = getenv(env);
	if (text == NULL)
		return true;
	errno = 0;
	number = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || number < (long)s->min ||
			number > (long)s->max) {
		snprintf(env, sizeof(env), UIO_ENV "%s=%.16s", name, text);
		uio_settings_help(env);
		return false;
	}
	*value = number;
	return true;
}

int
uio_settings_read(void)
{
	static const char role[] = UIO_ENV_ROLE "=";
	uint32_t write, verbose;
	size_t i;

	for (i = 0; environ[i] != NULL; i++) {
		/* A misspelt name would otherwise silently do nothing. */
		if (strncmp(environ[i], UIO_ENV, strlen(UIO_ENV)) == 0 &&
				strncmp(environ[i], role, strlen(role)) != 0 &&
				uio_setting_find(environ[i]) == NULL)
			return uio_settings_help(environ[i]);
	}
	uio_settings.cases = getenv(UIO_ENV "CASES");
	if (uio_settings.cases != NULL && uio_settings.cases[0] == '\0')
		uio_settings.cases = NULL;
	if (!uio_setting_number("REPEAT", &uio_settings.repeat) ||
			!uio_setting_number("WRITE", &write) ||
			!uio_setting_number("TIME_SCALE", &uio_settings.time_scale) ||
			!uio_setting_number("VERBOSE", &verbose))
		return -1;
	uio_settings.write = write != 0;
	uio_settings.verbose = verbose != 0;

	return 0;
}
