// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import KafkaCodec
import Logging
import MartletCore

// Users, as Kafka's own tools manage them: a mechanism at a time, with passwords that the tool has salted.
extension KafkaDoor {
    private static let notAllowed =
        "users are managed by who may alter the cluster, or by super users where there are no rules"

    func describeUserScramCredentials(
        _ request: DescribeUserScramCredentialsRequest,
        _ call: Call
    ) async -> DescribeUserScramCredentialsResponse {
        typealias Result = DescribeUserScramCredentialsResponse.DescribeUserScramCredentialsResult
        guard mayManageAccess(call.session, .describe) else {
            return DescribeUserScramCredentialsResponse(
                errorCode: .clusterAuthorizationFailed,
                errorMessage: Self.notAllowed
            )
        }
        do {
            let wanted = request.users ?? []
            let names = try await wanted.isEmpty ? security.users.list().map(\.name) : wanted.map(\.name)
            var response = DescribeUserScramCredentialsResponse()
            var seen = Set<String>()
            for name in names {
                guard seen.insert(name).inserted else {
                    response.results.removeAll { $0.user == name }
                    response.results.append(
                        Result(user: name, errorCode: .duplicateResource, errorMessage: "the user is asked for twice")
                    )
                    continue
                }
                guard let mechanisms = try await security.users.mechanisms(of: name) else {
                    response.results.append(
                        Result(user: name, errorCode: .resourceNotFound, errorMessage: "there is no user '\(name)'")
                    )
                    continue
                }
                response.results.append(
                    Result(
                        user: name,
                        credentialInfos: mechanisms.map { mechanism, iterations in
                            DescribeUserScramCredentialsResponse.CredentialInfo(
                                mechanism: mechanism.number,
                                iterations: Int32(iterations)
                            )
                        }
                    )
                )
            }
            return response
        } catch {
            let refusal = TopicRefusal(error)
            return DescribeUserScramCredentialsResponse(errorCode: refusal.code, errorMessage: refusal.message)
        }
    }

    func alterUserScramCredentials(
        _ request: AlterUserScramCredentialsRequest,
        _ call: Call
    ) async -> AlterUserScramCredentialsResponse {
        typealias Result = AlterUserScramCredentialsResponse.AlterUserScramCredentialsResult
        let names = request.deletions.map(\.name) + request.upsertions.map(\.name)
        let stranger = refusalOfStrangers(call, toManage: "users", with: "martlet kafka users create NAME")
        let isAllowed = stranger == nil && mayManageAccess(call.session, .alter)
        let pairs =
            request.deletions.map { "\($0.mechanism) \($0.name)" }
            + request.upsertions.map { "\($0.mechanism) \($0.name)" }
        let repeated = Dictionary(grouping: zip(pairs, names), by: \.0).filter { $0.value.count > 1 }
        let twice = Set(repeated.values.compactMap { $0.first?.1 })
        var results: [Result] = []
        for name in Set(names).sorted() {
            var result = Result(user: name)
            do {
                if let stranger { throw stranger }
                guard isAllowed else { throw TopicRefusal(.clusterAuthorizationFailed, Self.notAllowed) }
                guard !twice.contains(name) else {
                    throw TopicRefusal(.duplicateResource, "a mechanism of the user is changed twice")
                }
                try await alter(name, request)
                logger.notice("a Kafka user was changed by a client", metadata: ["peer": "\(call.session.peer)"])
            } catch {
                let refusal = Self.refusal(error)
                result.errorCode = refusal.code
                result.errorMessage = refusal.message
            }
            results.append(result)
        }
        return AlterUserScramCredentialsResponse(results: results)
    }

    /// What a request wants of one user: checked whole before any of it is done.
    private func alter(_ name: String, _ request: AlterUserScramCredentialsRequest) async throws {
        let verifiers = try request.upsertions.filter { $0.name == name }.map { wanted in
            let mechanism = try Self.mechanism(wanted.mechanism)
            guard ScramVerifier.iterationsAllowed.contains(Int(wanted.iterations)),
                wanted.saltedPassword.count == mechanism.hashBytes, (1...1024).contains(wanted.salt.count)
            else {
                throw TopicRefusal(
                    .unacceptableCredential,
                    "iterations must be \(ScramVerifier.iterationsAllowed), salt and salted password be of the usual size"
                )
            }
            return ScramVerifier(
                mechanism,
                salt: wanted.salt,
                iterations: Int(wanted.iterations),
                saltedPassword: wanted.saltedPassword
            )
        }
        let removed = try request.deletions.filter { $0.name == name }.map { try Self.mechanism($0.mechanism) }
        for mechanism in removed { try await security.users.remove(name, mechanism) }
        for verifier in verifiers { try await security.users.set(name, verifier) }
    }

    private static func mechanism(_ number: Int8) throws -> ScramMechanism {
        guard let mechanism = ScramMechanism.allCases.first(where: { $0.number == number }) else {
            throw TopicRefusal(.unsupportedSaslMechanism, "mechanism \(number) does not exist")
        }
        return mechanism
    }

    private static func refusal(_ error: any Error) -> TopicRefusal {
        switch error {
        case let refusal as TopicRefusal: refusal
        case let error as ServiceError where error.code == .notFound:
            TopicRefusal(.resourceNotFound, TopicRefusal(error).message)
        case let error as ServiceError where error.code == .invalid:
            TopicRefusal(.unacceptableCredential, TopicRefusal(error).message)
        default: TopicRefusal(error)
        }
    }
}

extension ScramMechanism {
    /// The protocol's number.
    fileprivate var number: Int8 { self == .sha256 ? 1 : 2 }
}
