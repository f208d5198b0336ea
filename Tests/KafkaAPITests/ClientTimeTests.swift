// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Crypto
import EventLog
import Foundation
import KafkaAPI
import KafkaCodec
import NIOCore
import NIOPosix
import SwiftASN1
import Testing
import X509

/// Only the time in which the client itself is waited for counts against it.
@Suite(.timeLimit(.minutes(5)), .serialized) struct ClientTimeTests {
    private static let mebibyte = 1 << 20

    /// A client that waits for memory makes it scarce itself; that must not shorten the time it has afterwards.
    @Test func whoHasWaitedForMemoryIsNotHurriedForIt() async throws {
        try await DoorStand.with { configuration in
            configuration.requestBytesMax = 2 * Self.mebibyte
            configuration.otherRequestBytesMax = Self.mebibyte
            configuration.requestMemoryBytes = 3 * Self.mebibyte
            configuration.stallSeconds = 600
            configuration.contendedStallSeconds = 1
            // So high that what arrives gives back next to no time.
            configuration.requestBytesPerSecondMin = 1 << 30
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            let request = Requests.produce("t", bytes: 19 * Self.mebibyte / 10)
            // Takes all there is, and is closed as soon as somebody waits for it.
            let stalling = try await stand.connect()
            stalling.start(Array(request.dropLast(100)))
            try await Task.sleep(for: .milliseconds(300))
            let honest = try await stand.connect()
            honest.start(Array(request.dropLast(100)))
            while !stalling.isClosed { try await Task.sleep(for: .milliseconds(50)) }
            // Longer than it would have had where others waited for it.
            try await Task.sleep(for: .seconds(3))
            #expect(!honest.isClosed)
            honest.start(Array(request.suffix(100)))
            let answer = try await honest.answer(to: ProduceRequest.self, version: 9)
            #expect(answer.responses[0].partitionResponses[0].errorCode == .noError)
        }
    }

    /// With encryption, records come through memory from their file; a disk that hangs is not the client's fault.
    @Test func whoWaitsForTheDiskIsNotClosedForIt() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "martlet-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let tls = try Self.certificate(folder)
        try await DoorStand.with(
            { configuration in
                configuration.answerRecordBytesMax = 0
                configuration.stallSeconds = 1
                configuration.contendedStallSeconds = 1
            },
            tls: tls
        ) { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            let wire = try await stand.connect(isEncrypted: true)
            wire.start(Requests.produce("t", bytes: Self.mebibyte))
            let produced = try await wire.answer(to: ProduceRequest.self, version: 9)
            #expect(produced.responses[0].partitionResponses[0].errorCode == .noError)
            // The threads that read files are all taken, as by a disk that does not answer.
            let release = DispatchSemaphore(value: 0)
            let count = System.coreCount * 4 + 64
            for _ in 0..<count { NIOThreadPool.singleton.submit { _ in release.wait() } }
            try await wire.send(Requests.fetch("t", wait: 100, bytesMax: 4 * Self.mebibyte), version: 11)
            try await Task.sleep(for: .seconds(4))
            for _ in 0..<count { release.signal() }
            let answer = await wire.answer()
            #expect((answer?.count ?? 0) > Self.mebibyte, "the connection was closed")
        }
    }

    private static func certificate(_ folder: URL) throws -> TLSSettings {
        let key = P256.Signing.PrivateKey()
        let name = try DistinguishedName { CommonName("localhost") }
        let certificate = try Certificate(
            version: .v3,
            serialNumber: Certificate.SerialNumber(),
            publicKey: Certificate.PublicKey(key.publicKey),
            notValidBefore: Date(timeIntervalSinceNow: -3600),
            notValidAfter: Date(timeIntervalSinceNow: 86400),
            issuer: name,
            subject: name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions { SubjectAlternativeNames([.dnsName("localhost")]) },
            issuerPrivateKey: Certificate.PrivateKey(key)
        )
        let (place, keyPlace) = (folder.appending(path: "server.pem"), folder.appending(path: "server.key"))
        try Data(certificate.serializeAsPEM().pemString.utf8).write(to: place)
        try Data(key.pemRepresentation.utf8).write(to: keyPlace)
        return TLSSettings(certificate: place.path, key: keyPlace.path)
    }
}
