// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import MartletCore

/// Starts another program with the signals of a fresh process.
///
/// Threads of Swift's runtime block signals, and a program started from one of them would be deaf to Ctrl-C and SIGTERM.
enum ChildProgram {
    /// Replaces this process; returns only the reason why that was not possible.
    static func become(_ path: String, _ arguments: [String], environment: [String: String]) -> ServiceError {
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT] { signal(number, SIG_DFL) }
        let code = withCStrings([path] + arguments) { argv in
            withCStrings(list(environment)) { envp in
                execve(path, argv, envp)
                return errno
            }
        }
        return failure(path, code)
    }

    /// Starts it in a session of its own, without a terminal.
    ///
    /// - Returns: Its process id.
    /// - Throws: `ServiceError` where it cannot be started.
    static func spawn(_ path: String, _ arguments: [String], environment: [String: String]) throws -> pid_t {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        let flags = Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF) | 0x80  // POSIX_SPAWN_SETSID
        posix_spawnattr_setflags(&attributes, Int16(flags))
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0)
        var process = pid_t()
        let code = withCStrings([path] + arguments) { argv in
            withCStrings(list(environment)) { envp in
                posix_spawn(&process, path, &files, &attributes, argv, envp)
            }
        }
        guard code == 0 else { throw failure(path, code) }
        return process
    }

    private static func failure(_ path: String, _ code: Int32) -> ServiceError {
        ServiceError(.failedPrecondition, "\(path) cannot be started: \(String(cString: strerror(code)))")
    }

    private static func list(_ environment: [String: String]) -> [String] {
        environment.map { "\($0.key)=\($0.value)" }
    }

    /// Calls `body` with a null-terminated array of C strings that live until it returns.
    private static func withCStrings<R>(
        _ strings: [String],
        _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> R
    ) -> R {
        var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        return pointers.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { preconditionFailure("the array has at least its terminator") }
            return body(base)
        }
    }
}
