/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright(c) 2026 the dpdk-uio-secondary authors
 */

#include <dirent.h>
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>

#include "test.h"
#include "pci_uio_test.h"

/* The environment for a child: ours, with the role in place of what concerns this process. */
static char **
uio_make_environ(char *role)
{
	static char action[] = RECURSIVE_ENV_VAR "=" UIO_RECURSIVE_ACTION;
	/* DPDK_TEST is a test to run, DPDK_TEST_PARAMS are EAL options for this process. */
	static const char * const dropped[] = {
		"DPDK_TEST", RECURSIVE_ENV_VAR "=", UIO_ENV_ROLE "=",
	};
	char **envp;
	size_t i, j, nb = 0;

	for (i = 0; environ[i] != NULL; i++)
		;
	envp = calloc(i + 3, sizeof(*envp));
	if (envp == NULL)
		return NULL;
	for (i = 0; environ[i] != NULL; i++) {
		for (j = 0; j < RTE_DIM(dropped); j++) {
			if (strncmp(environ[i], dropped[j], strlen(dropped[j])) == 0)
				break;
		}
		if (j == RTE_DIM(dropped))
			envp[nb++] = environ[i];
	}
	envp[nb++] = action;
	envp[nb++] = role;

	return envp;
}

/*
 * process_dup() of process.h cannot be used: it waits for the child, and this process is to do I/O
 * meanwhile. posix_spawn() copies neither page tables nor locks, and runs nothing of this program
 * in the child.
 */
int
uio_run_again(pid_t *pid, char *const argv[], char *role, int output)
{
	posix_spawn_file_actions_t actions;
	struct dirent *entry;
	char **envp;
	DIR *dir;
	int ret;

	dir = opendir("/proc/self/fd");
	if (dir == NULL)
		return errno;
	envp = uio_make_environ(role);
	ret = posix_spawn_file_actions_init(&actions);
	if (ret == 0) {
		posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
		posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
		/*
		 * An inherited fd on /dev/uioX would be the primary's open file: its close does not
		 * disturb, but it would hide what the secondary opens by itself.
		 */
		while ((entry = readdir(dir)) != NULL) {
			if (atoi(entry->d_name) > STDERR_FILENO)
				posix_spawn_file_actions_addclose(&actions, atoi(entry->d_name));
		}
		ret = envp == NULL ? ENOMEM :
			posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, envp);
		posix_spawn_file_actions_destroy(&actions);
	}
	free(envp);
	closedir(dir);

	return ret;
}
