// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

/// Finds the operation of a method and path.
struct RouteTable: Sendable {
    /// The operations of one path.
    private struct Place: Sendable {
        let segments: [String?]
        var routes: [Route]
    }

    enum Match {
        case found(Route, path: [String: String])
        /// The path exists, with these methods.
        case wrongMethod(allowed: [String])
        case none
    }

    let routes: [Route]
    /// By number of segments; paths with more fixed segments first.
    private let places: [Int: [Place]]

    init(_ routes: [Route]) {
        self.routes = routes
        var places: [Int: [Place]] = [:]
        for route in routes {
            let segments = route.segments
            if let index = places[segments.count]?.firstIndex(where: { $0.segments == segments }) {
                places[segments.count]?[index].routes.append(route)
            } else {
                places[segments.count, default: []].append(Place(segments: segments, routes: [route]))
            }
        }
        self.places = places.mapValues { list in
            list.sorted { Self.fixed($0.segments).lexicographicallyPrecedes(Self.fixed($1.segments)) }
        }
    }

    /// - Throws: `Refusal` 400 where the path is not percent-encoded UTF-8.
    func match(_ method: HTTPRequest.Method, _ path: String) throws -> Match {
        guard path.hasPrefix("/") else { return .none }
        let raw = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        guard let candidates = places[raw.count] else { return .none }
        let segments = try raw.map { segment in
            guard let text = PercentCoding.decode(segment) else {
                throw Refusal.malformed("the path is not percent-encoded UTF-8", fix: "encode it as %XX bytes of UTF-8")
            }
            return text
        }
        guard let place = candidates.first(where: { Self.fits($0.segments, segments) }) else { return .none }
        let wanted = method == .head ? HTTPRequest.Method.get : method
        guard let route = place.routes.first(where: { $0.method == wanted }) else {
            var allowed = place.routes.map(\.method.rawValue)
            if allowed.contains("GET") { allowed.append("HEAD") }
            return .wrongMethod(allowed: allowed.sorted())
        }
        let values = zip(place.segments, segments).filter { $0.0 == nil }.map(\.1)
        return .found(route, path: Dictionary(zip(route.pathParameters, values)) { $1 })
    }

    private static func fits(_ template: [String?], _ segments: [String]) -> Bool {
        zip(template, segments).allSatisfy { fixed, segment in fixed.map { $0 == segment } ?? !segment.isEmpty }
    }

    private static func fixed(_ segments: [String?]) -> [Int] {
        segments.map { $0 == nil ? 1 : 0 }
    }
}
