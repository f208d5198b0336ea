// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import GRPCCore
import GRPCProtobuf
import MartletProto
import ServiceLifecycle
import SwiftProtobuf

/// gRPC's server reflection, version 1 and its alpha, whose messages are the same.
package struct ReflectionService: RegistrableRPCService {
    private typealias Request = Grpc_Reflection_V1alpha_ServerReflectionRequest
    private typealias Response = Grpc_Reflection_V1alpha_ServerReflectionResponse

    private struct File: Sendable {
        let bytes: Data
        let dependencies: [String]
    }

    private let services: [String]
    private let files: [String: File]
    /// The file of each service, method, message, field and enumeration, by full name.
    private let symbols: [String: String]

    /// Describes services of these names, and itself.
    package init(services: [String]) {
        self.services = (services + Self.names).sorted()
        var files: [String: File] = [:]
        var symbols: [String: String] = [:]
        for (name, base64) in ServedDescriptors.files {
            guard let bytes = Data(base64Encoded: base64),
                let proto = try? Google_Protobuf_FileDescriptorProto(serializedBytes: bytes)
            else { continue }
            files[name] = File(bytes: bytes, dependencies: proto.dependency)
            for symbol in Self.symbols(of: proto) { symbols[symbol] = name }
        }
        self.files = files
        self.symbols = symbols
    }

    private static let names = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]

    /// Registers the one method of both versions.
    package func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        for name in Self.names {
            router.registerHandler(
                forMethod: MethodDescriptor(
                    service: ServiceDescriptor(fullyQualifiedService: name),
                    method: "ServerReflectionInfo",
                    type: .bidirectionalStreaming
                ),
                deserializer: ProtobufDeserializer<Request>(),
                serializer: ProtobufSerializer<Response>(),
                handler: { request, _ in
                    StreamingServerResponse { writer in
                        // A stream that nobody ends must not keep the engine from stopping.
                        try await cancelWhenGracefulShutdown {
                            for try await message in request.messages { try await writer.write(answer(message)) }
                        }
                        return [:]
                    }
                }
            )
        }
    }

    private func answer(_ request: Request) -> Response {
        .with { response in
            response.validHost = request.host
            response.originalRequest = request
            switch request.messageRequest {
            case .listServices:
                response.listServicesResponse = .with { list in
                    list.service = services.map { name in .with { $0.name = name } }
                }
            case .fileByFilename(let name): fill(&response, file: files[name] == nil ? nil : name, asked: name)
            case .fileContainingSymbol(let name): fill(&response, file: symbols[name], asked: name)
            case .fileContainingExtension(let one):
                Self.refuse(&response, "there are no extensions of \(one.containingType.prefix(200))")
            case .allExtensionNumbersOfType(let name):
                Self.refuse(&response, "there are no extensions of \(name.prefix(200))")
            case nil:
                Self.refuse(&response, "the request asks for nothing", code: .invalidArgument)
            }
        }
    }

    /// The file and all it imports.
    private func fill(_ response: inout Response, file: String?, asked: String) {
        guard let file else {
            return Self.refuse(&response, "nothing here is called \(asked.prefix(200)); ask for the list of services")
        }
        var wanted = [file]
        var found: [Data] = []
        var seen: Set<String> = [file]
        while let next = wanted.popLast() {
            guard let known = files[next] else { continue }
            found.append(known.bytes)
            wanted += known.dependencies.filter { seen.insert($0).inserted }
        }
        response.fileDescriptorResponse = .with { $0.fileDescriptorProto = found }
    }

    private static func refuse(_ response: inout Response, _ text: String, code: RPCError.Code = .notFound) {
        response.errorResponse = .with {
            $0.errorCode = Int32(code.rawValue)
            $0.errorMessage = text
        }
    }

    private static func symbols(of file: Google_Protobuf_FileDescriptorProto) -> [String] {
        let prefix = file.package.isEmpty ? "" : file.package + "."
        var all: [String] = []
        func add(_ message: Google_Protobuf_DescriptorProto, _ prefix: String) {
            let name = prefix + message.name
            all.append(name)
            all += message.field.map { "\(name).\($0.name)" }
            all += message.enumType.map { "\(name).\($0.name)" }
            for nested in message.nestedType { add(nested, name + ".") }
        }
        for message in file.messageType { add(message, prefix) }
        all += file.enumType.map { prefix + $0.name }
        for service in file.service {
            all.append(prefix + service.name)
            all += service.method.map { "\(prefix)\(service.name).\($0.name)" }
        }
        return all
    }
}
