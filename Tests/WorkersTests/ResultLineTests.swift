// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import Workers

@Suite struct ResultLineTests {}
