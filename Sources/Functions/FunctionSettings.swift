// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore

/// Where functions are kept and what they are built with.
package struct FunctionSettings: Sendable {
    /// Directory that holds `bundles/` and `environments/`.
    package var root: String
    /// Python of the engine's own environment, whose pip (23.1 or newer) installs requirements.
    package var python: String
    /// Directories appended to every function's module path, after its own packages: the worker runtime and what it imports.
    package var runtimePaths: [String]
    /// Pattern of the Python versions to choose from where a build names none, such as `3.*` or `3.12.*`.
    package var pythonVersion: String
    /// Directories searched for interpreters; nil means those in PATH.
    package var searchPaths: [String]?
    /// Whether packages of an Aptfile may be installed with apt-get.
    package var installsSystemPackages: Bool
    /// Longest time one pip run may take.
    package var installTimeout: Duration
    /// Why no function can be built or run here; nil where they can.
    package var obstacle: ServiceError?

    /// Makes settings; relative paths are made absolute, because builds run in other directories.
    package init(
        root: String,
        python: String,
        runtimePaths: [String] = [],
        pythonVersion: String = "3.*",
        searchPaths: [String]? = nil,
        installsSystemPackages: Bool = false,
        installTimeout: Duration = .seconds(1800)
    ) {
        self.root = Self.absolute(root)
        self.python = Self.absolute(python)
        self.runtimePaths = runtimePaths.map(Self.absolute)
        self.pythonVersion = pythonVersion
        self.searchPaths = searchPaths
        self.installsSystemPackages = installsSystemPackages
        self.installTimeout = installTimeout
    }

    private static func absolute(_ path: String) -> String {
        URL(fileURLWithPath: path).standardizedFileURL.path
    }
}
