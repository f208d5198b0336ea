// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0
//
// The part of DuckDB's C API (version 1.4 to 2.0, "C API reference" of the DuckDB documentation) that Martlet calls, as a
// table of function pointers, because the library is found and loaded at run time.

#ifndef MARTLET_DUCKDB_H
#define MARTLET_DUCKDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Parameters and results carry no nullability: Swift then sees them as optional, which is what the C API means.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wnullability-completeness"

typedef uint64_t idx_t;

typedef struct martlet_duckdb_database *duckdb_database;
typedef struct martlet_duckdb_connection *duckdb_connection;
typedef struct martlet_duckdb_config *duckdb_config;
typedef struct martlet_duckdb_prepared *duckdb_prepared_statement;
typedef struct martlet_duckdb_extracted *duckdb_extracted_statements;
typedef struct martlet_duckdb_appender *duckdb_appender;
typedef struct martlet_duckdb_logical_type *duckdb_logical_type;
typedef struct martlet_duckdb_chunk *duckdb_data_chunk;
typedef struct martlet_duckdb_vector *duckdb_vector;
typedef struct martlet_duckdb_error_data *duckdb_error_data;
typedef struct martlet_duckdb_value *duckdb_value;
typedef struct martlet_duckdb_replacement *duckdb_replacement_scan_info;
typedef struct martlet_duckdb_table_function *duckdb_table_function;
typedef struct martlet_duckdb_bind *duckdb_bind_info;
typedef struct martlet_duckdb_init *duckdb_init_info;
typedef struct martlet_duckdb_function *duckdb_function_info;
typedef struct martlet_duckdb_pending *duckdb_pending_result;

/// Called while a statement is bound, for a table name that the catalog does not have.
typedef void (*duckdb_replacement_callback)(duckdb_replacement_scan_info, const char *, void *);
typedef void (*duckdb_delete_callback)(void *);
/// The three calls of a table function: while a statement is bound, when it starts, and for each chunk of rows.
typedef void (*duckdb_table_function_bind)(duckdb_bind_info);
typedef void (*duckdb_table_function_init)(duckdb_init_info);
typedef void (*duckdb_table_function_main)(duckdb_function_info, duckdb_data_chunk);

/// 0 is success, 1 is failure.
typedef int duckdb_state;

typedef struct {
    uint64_t lower;
    int64_t upper;
} duckdb_hugeint;

typedef struct {
    uint8_t width;
    uint8_t scale;
    duckdb_hugeint value;
} duckdb_decimal;

typedef struct {
    int64_t micros;
} duckdb_timestamp;

typedef struct {
    int32_t days;
} duckdb_date;

typedef struct {
    uint64_t offset;
    uint64_t length;
} duckdb_list_entry;

typedef struct {
    double percentage;
    uint64_t rows_processed;
    uint64_t total_rows_to_process;
} duckdb_query_progress_type;

/// Passed by value to the library; every member is its own business.
typedef struct {
    idx_t column_count;
    idx_t row_count;
    idx_t rows_changed;
    void *columns;
    char *error_message;
    void *internal_data;
} duckdb_result;

#define MARTLET_DUCKDB_FUNCTIONS(F)                                                                                    \
    F(const char *, library_version, (void))                                                                           \
    F(void, free, (void *))                                                                                            \
    F(duckdb_state, create_config, (duckdb_config *))                                                                  \
    F(duckdb_state, set_config, (duckdb_config, const char *, const char *))                                           \
    F(void, destroy_config, (duckdb_config *))                                                                         \
    F(duckdb_state, open_ext, (const char *, duckdb_database *, duckdb_config, char **))                               \
    F(void, close, (duckdb_database *))                                                                                \
    F(void, add_replacement_scan,                                                                                      \
      (duckdb_database, duckdb_replacement_callback, void *, duckdb_delete_callback))                                  \
    F(void, replacement_scan_set_function_name, (duckdb_replacement_scan_info, const char *))                          \
    F(void, replacement_scan_add_parameter, (duckdb_replacement_scan_info, duckdb_value))                              \
    F(void, replacement_scan_set_error, (duckdb_replacement_scan_info, const char *))                                  \
    F(duckdb_value, create_varchar_length, (const char *, idx_t))                                                      \
    F(void, destroy_value, (duckdb_value *))                                                                                \
    F(duckdb_state, connect, (duckdb_database, duckdb_connection *))                                                   \
    F(void, disconnect, (duckdb_connection *))                                                                         \
    F(void, interrupt, (duckdb_connection))                                                                            \
    F(duckdb_query_progress_type, query_progress, (duckdb_connection))                                                 \
    F(duckdb_state, query, (duckdb_connection, const char *, duckdb_result *))                                         \
    F(void, destroy_result, (duckdb_result *))                                                                         \
    F(idx_t, column_count, (duckdb_result *))                                                                          \
    F(const char *, column_name, (duckdb_result *, idx_t))                                                             \
    F(duckdb_logical_type, column_logical_type, (duckdb_result *, idx_t))                                              \
    F(idx_t, rows_changed, (duckdb_result *))                                                                          \
    F(const char *, result_error, (duckdb_result *))                                                                   \
    F(int, result_error_type, (duckdb_result *))                                                                       \
    F(int, result_return_type, (duckdb_result))                                                                        \
    F(duckdb_data_chunk, fetch_chunk, (duckdb_result))                                                                 \
    F(idx_t, extract_statements, (duckdb_connection, const char *, duckdb_extracted_statements *))                     \
    F(const char *, extract_statements_error, (duckdb_extracted_statements))                                           \
    F(void, destroy_extracted, (duckdb_extracted_statements *))                                                        \
    F(duckdb_state, prepare_extracted_statement,                                                                       \
      (duckdb_connection, duckdb_extracted_statements, idx_t, duckdb_prepared_statement *))                            \
    F(const char *, prepare_error, (duckdb_prepared_statement))                                                        \
    F(void, destroy_prepare, (duckdb_prepared_statement *))                                                            \
    F(idx_t, nparams, (duckdb_prepared_statement))                                                                     \
    F(int, prepared_statement_type, (duckdb_prepared_statement))                                                       \
    F(duckdb_state, bind_parameter_index, (duckdb_prepared_statement, idx_t *, const char *))                          \
    F(duckdb_state, clear_bindings, (duckdb_prepared_statement))                                                       \
    F(duckdb_state, bind_null, (duckdb_prepared_statement, idx_t))                                                     \
    F(duckdb_state, bind_boolean, (duckdb_prepared_statement, idx_t, bool))                                            \
    F(duckdb_state, bind_int64, (duckdb_prepared_statement, idx_t, int64_t))                                           \
    F(duckdb_state, bind_hugeint, (duckdb_prepared_statement, idx_t, duckdb_hugeint))                                  \
    F(duckdb_state, bind_decimal, (duckdb_prepared_statement, idx_t, duckdb_decimal))                                  \
    F(duckdb_state, bind_double, (duckdb_prepared_statement, idx_t, double))                                           \
    F(duckdb_state, bind_date, (duckdb_prepared_statement, idx_t, duckdb_date))                                        \
    F(duckdb_state, bind_timestamp, (duckdb_prepared_statement, idx_t, duckdb_timestamp))                              \
    F(duckdb_state, bind_varchar_length, (duckdb_prepared_statement, idx_t, const char *, idx_t))                      \
    F(duckdb_state, bind_blob, (duckdb_prepared_statement, idx_t, const void *, idx_t))                                \
    F(duckdb_state, execute_prepared, (duckdb_prepared_statement, duckdb_result *))                                    \
    F(duckdb_state, execute_prepared_streaming, (duckdb_prepared_statement, duckdb_result *))                          \
    F(duckdb_logical_type, create_logical_type, (int))                                                                 \
    F(duckdb_logical_type, create_decimal_type, (uint8_t, uint8_t))                                                    \
    F(void, destroy_logical_type, (duckdb_logical_type *))                                                             \
    F(int, get_type_id, (duckdb_logical_type))                                                                         \
    F(char *, logical_type_get_alias, (duckdb_logical_type))                                                           \
    F(uint8_t, decimal_width, (duckdb_logical_type))                                                                   \
    F(uint8_t, decimal_scale, (duckdb_logical_type))                                                                   \
    F(int, decimal_internal_type, (duckdb_logical_type))                                                               \
    F(int, enum_internal_type, (duckdb_logical_type))                                                                  \
    F(uint32_t, enum_dictionary_size, (duckdb_logical_type))                                                           \
    F(char *, enum_dictionary_value, (duckdb_logical_type, idx_t))                                                     \
    F(duckdb_logical_type, list_type_child_type, (duckdb_logical_type))                                                \
    F(duckdb_logical_type, array_type_child_type, (duckdb_logical_type))                                               \
    F(idx_t, array_type_array_size, (duckdb_logical_type))                                                             \
    F(duckdb_logical_type, map_type_key_type, (duckdb_logical_type))                                                   \
    F(duckdb_logical_type, map_type_value_type, (duckdb_logical_type))                                                 \
    F(idx_t, struct_type_child_count, (duckdb_logical_type))                                                           \
    F(char *, struct_type_child_name, (duckdb_logical_type, idx_t))                                                    \
    F(duckdb_logical_type, struct_type_child_type, (duckdb_logical_type, idx_t))                                       \
    F(duckdb_data_chunk, create_data_chunk, (duckdb_logical_type *, idx_t))                                            \
    F(void, destroy_data_chunk, (duckdb_data_chunk *))                                                                 \
    F(void, data_chunk_reset, (duckdb_data_chunk))                                                                     \
    F(idx_t, data_chunk_get_size, (duckdb_data_chunk))                                                                 \
    F(void, data_chunk_set_size, (duckdb_data_chunk, idx_t))                                                           \
    F(duckdb_vector, data_chunk_get_vector, (duckdb_data_chunk, idx_t))                                                \
    F(void *, vector_get_data, (duckdb_vector))                                                                        \
    F(uint64_t *, vector_get_validity, (duckdb_vector))                                                                \
    F(void, vector_ensure_validity_writable, (duckdb_vector))                                                          \
    F(void, vector_assign_string_element_len, (duckdb_vector, idx_t, const char *, idx_t))                             \
    F(duckdb_vector, list_vector_get_child, (duckdb_vector))                                                           \
    F(duckdb_state, list_vector_set_size, (duckdb_vector, idx_t))                                                      \
    F(duckdb_state, list_vector_reserve, (duckdb_vector, idx_t))                                                       \
    F(duckdb_vector, struct_vector_get_child, (duckdb_vector, idx_t))                                                  \
    F(duckdb_vector, array_vector_get_child, (duckdb_vector))                                                          \
    F(idx_t, vector_size, (void))                                                                                      \
    F(duckdb_state, appender_create_ext,                                                                               \
      (duckdb_connection, const char *, const char *, const char *, duckdb_appender *))                                \
    F(duckdb_state, appender_create_query,                                                                             \
      (duckdb_connection, const char *, idx_t, duckdb_logical_type *, const char *, const char **, duckdb_appender *)) \
    F(idx_t, appender_column_count, (duckdb_appender))                                                                 \
    F(duckdb_logical_type, appender_column_type, (duckdb_appender, idx_t))                                             \
    F(duckdb_state, appender_add_column, (duckdb_appender, const char *))                                              \
    F(duckdb_state, append_data_chunk, (duckdb_appender, duckdb_data_chunk))                                           \
    F(duckdb_state, appender_flush, (duckdb_appender))                                                                 \
    F(duckdb_state, appender_destroy, (duckdb_appender *))                                                             \
    F(duckdb_table_function, create_table_function, (void))                                                            \
    F(void, destroy_table_function, (duckdb_table_function *))                                                         \
    F(void, table_function_set_name, (duckdb_table_function, const char *))                                            \
    F(void, table_function_add_parameter, (duckdb_table_function, duckdb_logical_type))                                \
    F(void, table_function_set_extra_info, (duckdb_table_function, void *, duckdb_delete_callback))                    \
    F(void, table_function_set_bind, (duckdb_table_function, duckdb_table_function_bind))                              \
    F(void, table_function_set_init, (duckdb_table_function, duckdb_table_function_init))                              \
    F(void, table_function_set_function, (duckdb_table_function, duckdb_table_function_main))                          \
    F(void, table_function_supports_projection_pushdown, (duckdb_table_function, bool))                                \
    F(duckdb_state, register_table_function, (duckdb_connection, duckdb_table_function))                               \
    F(void *, bind_get_extra_info, (duckdb_bind_info))                                                                 \
    F(duckdb_value, bind_get_parameter, (duckdb_bind_info, idx_t))                                                     \
    F(void, bind_add_result_column, (duckdb_bind_info, const char *, duckdb_logical_type))                             \
    F(void, bind_set_bind_data, (duckdb_bind_info, void *, duckdb_delete_callback))                                    \
    F(void, bind_set_cardinality, (duckdb_bind_info, idx_t, bool))                                                     \
    F(void, bind_set_error, (duckdb_bind_info, const char *))                                                          \
    F(void *, init_get_bind_data, (duckdb_init_info))                                                                  \
    F(void, init_set_init_data, (duckdb_init_info, void *, duckdb_delete_callback))                                    \
    F(void, init_set_max_threads, (duckdb_init_info, idx_t))                                                           \
    F(idx_t, init_get_column_count, (duckdb_init_info))                                                                \
    F(idx_t, init_get_column_index, (duckdb_init_info, idx_t))                                                         \
    F(void *, function_get_bind_data, (duckdb_function_info))                                                          \
    F(void *, function_get_init_data, (duckdb_function_info))                                                          \
    F(void, function_set_error, (duckdb_function_info, const char *))                                                  \
    F(char *, get_varchar, (duckdb_value))                                                                             \
    F(duckdb_logical_type, create_list_type, (duckdb_logical_type))                                                    \
    F(duckdb_logical_type, create_struct_type, (duckdb_logical_type *, const char **, idx_t))                          \
    F(void, logical_type_set_alias, (duckdb_logical_type, const char *))                                               \
    F(duckdb_state, pending_prepared, (duckdb_prepared_statement, duckdb_pending_result *))                            \
    F(int, pending_execute_task, (duckdb_pending_result))                                                              \
    F(duckdb_state, execute_pending, (duckdb_pending_result, duckdb_result *))                                         \
    F(void, destroy_pending, (duckdb_pending_result *))                                                                \
    F(duckdb_error_data, appender_error_data, (duckdb_appender))                                                       \
    F(int, error_data_error_type, (duckdb_error_data))                                                                 \
    F(const char *, error_data_message, (duckdb_error_data))                                                           \
    F(void, destroy_error_data, (duckdb_error_data *))

#define MARTLET_DUCKDB_FIELD(result, name, parameters) result(*_Nonnull name) parameters;

/// The functions of a loaded library, each under its name without `duckdb_`.
typedef struct {
    MARTLET_DUCKDB_FUNCTIONS(MARTLET_DUCKDB_FIELD)
} martlet_duckdb_api;

/// Looks up every function in a library opened with `dlopen`.
///
/// The result lives as long as the process. When a function is absent the result is null and `missing` is its name.
const martlet_duckdb_api *_Nullable martlet_duckdb_bind(void *_Nonnull handle, const char *_Nullable *_Nonnull missing);

/// `memfd_create` with close-on-exec, which glibc declares only under _GNU_SOURCE; -1 and `errno` when it fails.
int martlet_memfd_create(const char *_Nonnull name);

/// Names the calling thread, which glibc declares only under _GNU_SOURCE; at most 15 bytes.
void martlet_set_thread_name(const char *_Nonnull name);

#pragma clang diagnostic pop

#endif
