// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Functions
import MartletCore
import Testing

/// Builds with a real Python, real pip and the package index; serialised, because the timings it prints are of one build.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct BundleBuilderTests {
    private func refusal(
        _ files: [String: String],
        _ bench: FunctionBench,
        version: String? = nil
    ) async throws -> ServiceError {
        do {
            let built = try await bench.build(files, with: BundleBuilder(bench.settings), version: version)
            Issue.record("built \(built.digest)")
            return ServiceError(.internal, "built")
        } catch let error as ServiceError {
            #expect(bench.entries("bundles").isEmpty)
            #expect(bench.entries("environments").isEmpty)
            return error
        }
    }

    @Test func buildsOnceAndReusesWhatDidNotChange() async throws {
        let sdk = NSTemporaryDirectory() + "martlet-sdk-\(UUID().uuidString.lowercased())"
        try FileManager.default.createDirectory(atPath: sdk, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: sdk) }
        try Data("here = True\n".utf8).write(to: URL(fileURLWithPath: sdk + "/martlet_probe.py"))
        try Data("version = 'the runtime one'\n".utf8).write(to: URL(fileURLWithPath: sdk + "/six.py"))
        let bench = try FunctionBench(runtimePaths: [sdk])
        let builder = BundleBuilder(bench.settings)
        try builder.store.removeLeftovers()
        var files = ["main.py": FunctionBench.code, "requirements.txt": "six==1.16.0\nattrs # comment\n"]
        let first = try await bench.build(files, with: builder)
        #expect(!first.cached && !first.unchanged)
        #expect(first.digest.count == 64)
        let same = try await bench.build(files, with: builder)
        #expect(same.unchanged && same.digest == first.digest)
        let afterRestart = try await bench.build(files, with: BundleBuilder(bench.settings))
        #expect(afterRestart.unchanged)
        files["main.py"] = FunctionBench.code + "# changed\n"
        let code = try await bench.build(files, with: builder)
        #expect(!code.unchanged && code.cached && code.digest != first.digest && code.environment == first.environment)
        print("build: two requirements \(first.took), code only \(code.took), unchanged \(same.took)")
        #expect(bench.lines.contains { $0.contains("Successfully installed") })
        #expect(bench.entries("bundles") == [first.digest, code.digest].sorted())

        let launch = try builder.store.launch(first.digest)
        let probe =
            "import six, attr, sys, os, martlet_probe; print(six.__version__, martlet_probe.here, sys.prefix == os.environ['VIRTUAL_ENV'])"
        #expect(try bench.run(launch, probe) == "1.16.0 True True")
        let compiled = try FileManager.default.contentsOfDirectory(atPath: launch.appPath + "/__pycache__")
        #expect(compiled.contains { $0.hasPrefix("main.") && $0.hasSuffix(".pyc") })
        let traced = try bench.run(
            launch,
            "import sys, os; sys.path.insert(0, os.environ['MARTLET_APP_PATH']); import main; print(main.handler.__code__.co_filename)"
        )
        #expect(traced == launch.appPath + "/main.py")

        let fresh = try await bench.build(files, with: builder, clearCache: true)
        #expect(!fresh.cached && fresh.digest == code.digest)
        #expect(try bench.run(launch, probe) == "1.16.0 True True")
        #expect(bench.entries("environments").count == 1)

        let keep: Set<String> = [first.digest]
        #expect(try builder.store.collectGarbage(keep: [], before: Date(timeIntervalSinceNow: -60)).isEmpty)
        #expect(try builder.store.collectGarbage(keep: keep, before: Date(timeIntervalSinceNow: 60)) == [code.digest])
        #expect(bench.entries("environments").count == 1)
        #expect(try builder.store.collectGarbage(keep: [], before: Date(timeIntervalSinceNow: 60)) == [first.digest])
        #expect(bench.entries("environments").isEmpty)
        #expect(throws: ServiceError.self) { try builder.store.launch(first.digest) }
    }

    @Test func installsLocalLibrariesAndConsoleScripts() async throws {
        let bench = try FunctionBench()
        let builder = BundleBuilder(bench.settings)
        let built = try await bench.build(
            [
                "main.py": FunctionBench.code, "customDeps": "# local\nlibs/plain\n./libs/project\n",
                "libs/plain/__init__.py": "name = 'plain'\n", "libs/plain/inner.py": "",
                "libs/project/pyproject.toml":
                    "[project]\nname = \"projected\"\nversion = \"1.0\"\n[project.scripts]\nprojected = \"projected:main\"\n"
                    + "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n"
                    + "[tool.setuptools]\npy-modules = [\"projected\"]\n",
                "libs/project/projected.py": "def main():\n    print('script runs')\n",
            ],
            with: builder
        )
        let launch = try builder.store.launch(built.digest)
        #expect(try bench.run(launch, "import plain.inner, projected; print(plain.name)") == "plain")
        let script = (launch.executable as NSString).deletingLastPathComponent + "/projected"
        #expect(try bench.run(launch, "import subprocess; subprocess.run(['\(script)'])") == "script runs")
    }

    @Test func theEnvironmentFollowsEveryFileThatDecidesIt() async throws {
        let bench = try FunctionBench()
        let builder = BundleBuilder(bench.settings)
        var files = [
            "main.py": FunctionBench.code, "requirements.txt": "# all of it\n-r more/base.txt\n",
            "more/base.txt": "six \\\n  >= 1.15\n",
            "constraints.txt": "six == 1.16.0\n",
        ]
        let first = try await bench.build(files, with: builder)
        let probe = "import six; print(six.__version__)"
        #expect(try bench.run(try builder.store.launch(first.digest), probe) == "1.16.0")
        files["notes.txt"] = "nothing to do with it"
        #expect(try await bench.build(files, with: builder).environment == first.environment)
        files["constraints.txt"] = "six == 1.15.0\n"
        let second = try await bench.build(files, with: builder)
        #expect(second.environment != first.environment)
        #expect(try bench.run(try builder.store.launch(second.digest), probe) == "1.15.0")
        files["more/base.txt"] = "six >= 1.14\n"
        #expect(try await bench.build(files, with: builder).environment != second.environment)
    }

    @Test func aDirectoryThatCannotBeWrittenIsNamed() async throws {
        let bench = try FunctionBench()
        try Data("in the way".utf8).write(to: URL(fileURLWithPath: bench.settings.root))
        let error = await #expect(throws: ServiceError.self) {
            _ = try await bench.build(["main.py": FunctionBench.code], with: BundleBuilder(bench.settings))
        }
        #expect(error?.message.contains(bench.settings.root) == true, "\(String(describing: error))")
    }

    @Test func concurrentBuildsShareOneEnvironment() async throws {
        let bench = try FunctionBench()
        let builder = BundleBuilder(bench.settings)
        let requirements = "six==1.16.0\n"
        let digests = try await withThrowingTaskGroup(of: String.self) { group in
            for index in 0..<4 {
                group.addTask {
                    let code = FunctionBench.code + "# \(index % 2)\n"
                    return try await bench.build(["main.py": code, "requirements.txt": requirements], with: builder)
                        .digest
                }
            }
            return try await group.reduce(into: [String]()) { $0.append($1) }
        }
        #expect(Set(digests).count == 2)
        #expect(bench.entries("environments").count == 1)
        #expect(bench.entries("bundles").count == 2)
        #expect(bench.lines.filter { $0.hasPrefix("Successfully installed") }.count == 1)
    }

    @Test func namesTheRequirementThatPipCannotInstall() async throws {
        let bench = try FunctionBench()
        let missing = try await refusal(
            ["main.py": FunctionBench.code, "requirements.txt": "attrs\nmartlet-no-such-package==9.9\n"],
            bench
        )
        #expect(missing.message.contains("requirements.txt line 2"), "\(missing)")
        #expect(missing.message.contains("No matching distribution"), "\(missing)")
        #expect(missing.fields.first?.line == 2)
        #expect(missing.detail?.contains("ERROR") == true)
        let malformed = try await refusal(["main.py": FunctionBench.code, "requirements.txt": "six==\n"], bench)
        #expect(malformed.message.contains("six=="), "\(malformed)")
        let editable = try await refusal(["main.py": FunctionBench.code, "requirements.txt": "-e ./lib\n"], bench)
        #expect(editable.fields.first?.line == 1)
        let dependency = try await refusal(["main.py": FunctionBench.code, "customDeps": "# x\nnowhere\n"], bench)
        #expect(dependency.fields.first?.line == 2)
    }

    @Test(
        arguments: [
            ("def handler(ctx, event)\n    pass\n", "SyntaxError", 1), ("x = 1\n", "no function 'handler'", nil),
            ("def handler(ctx):\n    pass\n", "is called with (ctx, event)", 1),
            ("\n\ndef handler(a, b, c):\n    pass\n", "is called with (ctx, event)", 3),
            ("class handler:\n    pass\n", "is a class", 1),
            ("def init():\n    pass\ndef handler(c, e):\n    pass\n", "'init' is called with (ctx)", 1),
            ("if True:\nprint(1)\n", "IndentationError", 2), ("x = '\u{0}'\n", "null bytes", nil),
        ] as [(String, String, Int?)]
    )
    func checksTheHandlerWithoutRunningIt(code: String, words: String, line: Int?) async throws {
        let bench = try FunctionBench()
        let error = try await refusal(["main.py": code], bench)
        #expect(error.message.contains(words), "\(error)")
        #expect(error.message.hasPrefix("main.py"))
        #expect(error.fields.first?.line == line)
        if words == "SyntaxError" { #expect(error.detail?.contains("def handler(ctx, event)\n") == true) }
    }

    @Test(arguments: [
        "async def handler(ctx, event):\n    pass\n", "def handler(*args):\n    pass\n",
        "from common import handler\n",
        "try:\n    from x import handler\nexcept ImportError:\n    def handler(c, e): pass\n",
        "def make(): return print\nhandler = make()\n", "def handler(ctx, event, *, more=1, **rest):\n    pass\n",
        "raise SystemExit(1)\ndef handler(ctx, event): pass\n",
    ]) func acceptsEveryWayToDefineAHandler(code: String) async throws {
        let bench = try FunctionBench()
        _ = try await bench.build(["main.py": code], with: BundleBuilder(bench.settings))
        #expect(bench.lines.contains { $0.contains("warning: main.py has no function 'init(ctx)'") })
    }

    @Test func saysWhatIsMissing() async throws {
        let bench = try FunctionBench()
        let handler = try await refusal(["app.py": FunctionBench.code], bench)
        #expect(handler.fix?.contains("app.py") == true)
        let version = try await refusal(["main.py": FunctionBench.code], bench, version: "3.99.*")
        #expect(version.code == .failedPrecondition)
        #expect(version.message.contains("no Python fits version '3.99.*'; there are: 3."), "\(version)")
        let packages = try await refusal(
            ["main.py": FunctionBench.code, "Aptfile": "# x\nmartlet-no-such-package\ncoreutils\n"],
            bench
        )
        #expect(
            packages.fix?.contains("apt-get install -y --no-install-recommends martlet-no-such-package") == true,
            "\(packages)"
        )
        #expect(packages.fields.count == 1)
        let aptfile = try await refusal(["main.py": FunctionBench.code, "Aptfile": "x; rm -rf /\n"], bench)
        #expect(aptfile.fields.first?.line == 1)
    }

    @Test func choosesTheInterpreterThatFits() async throws {
        let bench = try FunctionBench()
        let builder = BundleBuilder(bench.settings)
        let plain = try await bench.build(["main.py": FunctionBench.code], with: builder)
        let minor = plain.python.split(separator: ".").prefix(2).joined(separator: ".")
        let exact = try await bench.build(["main.py": FunctionBench.code], with: builder, version: "\(minor).*")
        #expect(exact.unchanged)
        #expect(
            try bench.run(try builder.store.launch(plain.digest), "import platform; print(platform.python_version())")
                == plain.python
        )
    }

    @Test func relativePathsOfSettingsAreMadeAbsolute() {
        let settings = FunctionSettings(root: "./data/functions", python: "bin/../python", runtimePaths: ["sdk"])
        let here = FileManager.default.currentDirectoryPath
        #expect(settings.root == here + "/data/functions")
        #expect(settings.python == here + "/python")
        #expect(settings.runtimePaths == [here + "/sdk"])
    }

    @Test func leftoversOfACrashAreRemovedAndNeverUsed() async throws {
        let bench = try FunctionBench()
        let builder = BundleBuilder(bench.settings)
        let built = try await bench.build(["main.py": FunctionBench.code], with: builder)
        let root = bench.settings.root
        for path in ["bundles/.tmp-1/app", "environments/.tmp-2/bin", "environments/.old-3"] {
            try FileManager.default.createDirectory(atPath: "\(root)/\(path)", withIntermediateDirectories: true)
        }
        try builder.store.removeLeftovers()
        #expect(bench.entries("bundles") == [built.digest])
        #expect(bench.entries("environments") == [built.environment])
        try FileManager.default.removeItem(atPath: "\(root)/environments/\(built.environment)/bin/python")
        #expect(throws: ServiceError.self) { try builder.store.launch(built.digest) }
        let again = try await bench.build(["main.py": FunctionBench.code], with: builder)
        #expect(!again.unchanged && again.digest == built.digest)
        _ = try builder.store.launch(built.digest)
        try Data("{".utf8).write(to: URL(fileURLWithPath: "\(root)/bundles/\(built.digest)/bundle.json"))
        #expect(throws: ServiceError.self) { try builder.store.launch(built.digest) }
        _ = try await bench.build(["main.py": FunctionBench.code], with: builder)
        _ = try builder.store.launch(built.digest)
    }

    @Test func cancellingKillsPipAndLeavesNothing() async throws {
        let bench = try FunctionBench()
        let builder = BundleBuilder(bench.settings)
        let marker = bench.directory + "/pid"
        let setup = "import os, time\nopen('\(marker)', 'w').write(str(os.getpid()))\ntime.sleep(300)\n"
        let files = ["main.py": FunctionBench.code, "customDeps": "slow\n", "slow/setup.py": setup]
        let task = Task { try await bench.build(files, with: builder) }
        var pid: Int32?
        while pid == nil {
            try await Task.sleep(for: .milliseconds(20))
            pid = (try? String(contentsOfFile: marker, encoding: .utf8)).flatMap { Int32($0) }
        }
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        #expect(bench.entries("environments").isEmpty)
        #expect(bench.entries("bundles").isEmpty)
        // The signal went to the whole group; its last member may take a moment longer than pip. The time limit ends this.
        while let pid, isRunning(pid) { try await Task.sleep(for: .milliseconds(20)) }
    }

    /// Whether a process runs; one that ended and that nobody has waited for yet does not.
    private func isRunning(_ pid: Int32) -> Bool {
        guard let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8) else { return false }
        return !status.contains("State:\tZ")
    }
}
