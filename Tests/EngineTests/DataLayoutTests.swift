// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Engine
import Foundation
import Testing

@Suite struct DataLayoutTests {}
