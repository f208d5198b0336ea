// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Checks and compiles a function's code with its interpreter, without running it.
enum HandlerCheck {
    private struct Report: Decodable {
        struct Fault: Decodable {
            var file: String
            var line: Int?
            var column: Int?
            var text: String?
            var message: String
        }

        var error: Fault?
        var warnings: [String]
    }

    /// Compiles every module under `app` into its `__pycache__`, as if it stood under `final`.
    ///
    /// - Returns: Warnings.
    /// - Throws: `.invalid` for a syntax error in the handler file (file, line, text) or a handler that is missing or takes other
    ///   parameters than two.
    static func run(app: String, final: String, handler: String, interpreter: PythonInterpreter) async throws
        -> [String]
    {
        let outcome = try await CommandRunner.run(
            interpreter.path,
            ["-I", "-S", "-c", script, app, final, handler],
            environment: PythonEnvironment.variables(),
            timeout: .seconds(120)
        )
        guard let line = outcome.lines.last(where: { $0.hasPrefix(mark) }),
            let report = try? JSONDecoder().decode(Report.self, from: Data(line.dropFirst(mark.count).utf8))
        else {
            throw ServiceError(
                .invalid,
                "\(handler) cannot be checked: Python ended with \(outcome.code)",
                fix: "correct what Python says in the detail",
                detail: outcome.lines.joined(separator: "\n")
            )
        }
        guard let fault = report.error else { return report.warnings }
        var detail: String?
        if let text = fault.text, !text.isEmpty {
            let place = fault.line.map { "line \($0)" } ?? ""
            let pointer =
                fault.column.map { "\n" + String(repeating: " ", count: max(0, min(200, $0 - 1))) + "^" } ?? ""
            detail = "File \"\(fault.file)\", \(place)\n\(text)\(pointer)\n\(fault.message)"
        }
        let place = fault.line.map { ", line \($0)" } ?? ""
        let code = fault.text.map { ": \($0.trimmingCharacters(in: .whitespaces).prefix(200))" } ?? ""
        throw ServiceError(
            .invalid,
            "\(fault.file)\(place): \(fault.message)\(code)",
            fix: detail == nil ? "define: def handler(ctx, event)" : "correct the code at this line",
            fields: [.init(field: fault.file, message: fault.message, line: fault.line)],
            detail: detail
        )
    }

    private static let mark = "martlet-check:"

    private static let script = #"""
        import ast, json, os, py_compile, sys, warnings
        root, final, handler = sys.argv[1:4]
        report = {"error": None, "warnings": []}

        def end():
            print("martlet-check:" + json.dumps(report))
            sys.exit(0)

        def fault(message, line=None, column=None, text=None):
            report["error"] = {"file": handler, "line": line, "column": column, "text": text, "message": message}
            end()

        def syntax(error):
            name = type(error).__name__
            fault(name + ": " + str(error.msg), error.lineno, error.offset, (error.text or "").rstrip())

        def statements(body):
            for node in body:
                yield node
                for field in ("body", "orelse", "finalbody"):
                    if isinstance(node, (ast.If, ast.Try, ast.With)):
                        yield from statements(getattr(node, field, []))
                for part in getattr(node, "handlers", []):
                    yield from statements(part.body)

        warnings.simplefilter("ignore")
        with open(os.path.join(root, handler), "rb") as file:
            source = file.read()
        try:
            tree = ast.parse(source, handler)
            compile(source, handler, "exec", dont_inherit=True)
        except SyntaxError as error:
            syntax(error)
        except (ValueError, RecursionError, MemoryError) as error:
            fault(type(error).__name__ + ": " + str(error))
        bound = {}
        star = False
        for node in statements(tree.body):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                bound[node.name] = node
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        bound[target.id] = None
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for name in node.names:
                    star = star or name.name == "*"
                    bound[(name.asname or name.name).split(".")[0]] = None
        if "handler" not in bound and not star:
            fault("there is no function 'handler'")
        function = bound.get("handler")
        if isinstance(function, ast.ClassDef):
            fault("'handler' is a class, not a function", function.lineno)
        if function is not None and not [d for d in function.decorator_list if not isinstance(d, ast.Name)]:
            args = function.args
            positional = args.posonlyargs + args.args
            needed = len(positional) - len(args.defaults)
            wanted = [a.arg for a, d in zip(args.kwonlyargs, args.kw_defaults) if d is None]
            if needed > 2 or (len(positional) < 2 and not args.vararg) or wanted:
                shown = ", ".join(a.arg for a in positional + args.kwonlyargs)
                fault("'handler' takes (" + shown + "), but is called with (ctx, event)", function.lineno)
        if "init" not in bound and not star:
            report["warnings"].append(handler + " has no function 'init(ctx)': nothing is prepared before the first event")
        elif isinstance(bound.get("init"), (ast.FunctionDef, ast.AsyncFunctionDef)):
            args = bound["init"].args
            count = len(args.posonlyargs + args.args)
            if (count < 1 and not args.vararg) or count - len(args.defaults) > 1:
                fault("'init' is called with (ctx)", bound["init"].lineno)
        for folder, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                if not name.endswith(".py"):
                    continue
                path = os.path.join(folder, name)
                relative = os.path.relpath(path, root)
                try:
                    py_compile.compile(path, dfile=os.path.join(final, relative), doraise=True,
                                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
                except py_compile.PyCompileError as error:
                    cause = error.exc_value
                    report["warnings"].append("%s line %s cannot be compiled: %s" % (relative, getattr(cause, "lineno", "?"), cause))
                except Exception as error:
                    report["warnings"].append("%s cannot be compiled: %s" % (relative, error))
        end()
        """#
}
