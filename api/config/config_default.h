/* What holds where the configuration says nothing. */
#ifndef API_CONFIG_CONFIG_DEFAULT_H
#define API_CONFIG_CONFIG_DEFAULT_H

#include "api/config/config.h"

/**
 * config_default_paths() - The XDG folders
 * @ret_file: path of the configuration file
 * Return:    0; -ENOENT when neither HOME nor the XDG variables say where to be
 * Thread:    any
 * Source:    XDG Base Directory Specification 0.8
 */
int config_default_paths(struct config *config, char ret_file[static CONFIG_PATH_BYTES], struct error *err);

/** config_default_values() - All that is neither a path nor a capacity of the machine. Thread: any */
void config_default_values(struct config *config);

/**
 * config_default_rest() - What follows from the other values: folders below the data folder, and what this machine has
 * Return: 0; -ENAMETOOLONG
 * Thread: any
 */
int config_default_rest(struct config *config, struct error *err);

#endif
