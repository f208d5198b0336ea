// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import KafkaCodec
import MartletCore

// Access rules, as Kafka's own tools manage them.
extension KafkaDoor {
    /// Why rules cannot be managed; nil where they can.
    private func refusal(_ call: Call, _ operation: KafkaACL.Operation) -> TopicRefusal? {
        guard security.access.isEnabled else {
            return TopicRefusal(.securityDisabled, "access rules are switched off; set kafka.acls.enabled: true")
        }
        guard mayOnCluster(call.session, operation) else {
            return TopicRefusal(.clusterAuthorizationFailed, "access rules are managed by who may alter the cluster")
        }
        return nil
    }

    func describeACLs(_ request: DescribeAclsRequest, _ call: Call) -> DescribeAclsResponse {
        if let refusal = refusal(call, .describe) {
            return DescribeAclsResponse(errorCode: refusal.code, errorMessage: refusal.message)
        }
        guard let filter = ACLFilter(request) else {
            return DescribeAclsResponse(errorCode: .invalidRequest, errorMessage: "the filter names what there is not")
        }
        typealias Resource = DescribeAclsResponse.DescribeAclsResource
        var resources: [Resource] = []
        var places: [KafkaACL: Int] = [:]
        for acl in security.access.acls().map(\.acl) where filter.takes(acl) {
            let description = DescribeAclsResponse.AclDescription(
                principal: acl.principal,
                host: acl.host,
                operation: acl.operation.number,
                permissionType: acl.permission.number
            )
            // Alike for all rules about the same.
            let about = KafkaACL(.allow, "", .all, on: acl.resourceType, acl.resourceName, pattern: acl.pattern)
            if let place = places[about] {
                resources[place].acls.append(description)
            } else {
                places[about] = resources.count
                resources.append(
                    Resource(
                        resourceType: acl.resourceType.number,
                        resourceName: acl.resourceName,
                        patternType: acl.pattern.number,
                        acls: [description]
                    )
                )
            }
        }
        return DescribeAclsResponse(resources: resources)
    }

    func createACLs(_ request: CreateAclsRequest, _ call: Call) async -> CreateAclsResponse {
        typealias Result = CreateAclsResponse.AclCreationResult
        if let refusal = refusal(call, .alter) {
            return CreateAclsResponse(
                results: request.creations.map { _ in Result(errorCode: refusal.code, errorMessage: refusal.message) }
            )
        }
        // Those that could hold are stored together: one step for all of them, however many there are.
        let acls = request.creations.map { creation in Swift.Result { try KafkaACL(creation).checked() } }
        let usable = acls.compactMap { try? $0.get() }  // The others are answered below.
        var failure: (any Error)?
        do {
            if !usable.isEmpty { _ = try await security.access.add(usable) }
        } catch {
            failure = error
        }
        return CreateAclsResponse(
            results: acls.map { acl in
                let error: (any Error)? =
                    switch acl {
                    case .success: failure
                    case .failure(let error): error
                    }
                guard let refusal = error.map(TopicRefusal.init) else { return Result() }
                return Result(errorCode: refusal.code, errorMessage: refusal.message)
            }
        )
    }

    func deleteACLs(_ request: DeleteAclsRequest, _ call: Call) async -> DeleteAclsResponse {
        typealias Result = DeleteAclsResponse.DeleteAclsFilterResult
        if let refusal = refusal(call, .alter) {
            return DeleteAclsResponse(
                filterResults: request.filters.map { _ in Result(errorCode: refusal.code, errorMessage: refusal.message)
                }
            )
        }
        var results: [Result] = []
        for one in request.filters {
            guard let filter = ACLFilter(one) else {
                results.append(Result(errorCode: .invalidRequest, errorMessage: "the filter names what there is not"))
                continue
            }
            do {
                let removed = try await security.access.remove { filter.takes($0.acl) }
                results.append(Result(matchingAcls: removed.map { Self.match($0.acl) }))
            } catch {
                let refusal = TopicRefusal(error)
                results.append(Result(errorCode: refusal.code, errorMessage: refusal.message))
            }
        }
        return DeleteAclsResponse(filterResults: results)
    }

    private static func match(_ acl: KafkaACL) -> DeleteAclsResponse.DeleteAclsMatchingAcl {
        DeleteAclsResponse.DeleteAclsMatchingAcl(
            resourceType: acl.resourceType.number,
            resourceName: acl.resourceName,
            patternType: acl.pattern.number,
            principal: acl.principal,
            host: acl.host,
            operation: acl.operation.number,
            permissionType: acl.permission.number
        )
    }
}

/// Which rules are asked for; nil stands for any.
private struct ACLFilter: Sendable {
    private enum Number {
        static let any: Int8 = 1
        /// Rules that concern a resource of that name, whatever their pattern.
        static let match: Int8 = 2
    }

    private var resourceType: KafkaACL.ResourceType?
    private var name: String?
    private var pattern: KafkaACL.Pattern?
    private var isMatch: Bool
    private var principal: String?
    private var host: String?
    private var operation: KafkaACL.Operation?
    private var permission: KafkaACL.Permission?

    /// Reads the protocol's numbers; nil where one stands for nothing.
    init?(
        resourceType: Int8,
        name: String?,
        pattern: Int8,
        principal: String?,
        host: String?,
        operation: Int8,
        permission: Int8
    ) {
        self.name = name
        self.principal = principal
        self.host = host.map { ClientAddress.normalised($0) ?? $0 }
        isMatch = pattern == Number.match
        if resourceType != Number.any {
            guard let known = KafkaACL.ResourceType(number: resourceType) else { return nil }
            self.resourceType = known
        }
        if pattern != Number.any, !isMatch {
            guard let known = KafkaACL.Pattern(number: pattern) else { return nil }
            self.pattern = known
        }
        if operation != Number.any {
            guard let known = KafkaACL.Operation(number: operation) else { return nil }
            self.operation = known
        }
        if permission != Number.any {
            guard let known = KafkaACL.Permission(number: permission) else { return nil }
            self.permission = known
        }
    }

    init?(_ request: DescribeAclsRequest) {
        self.init(
            resourceType: request.resourceTypeFilter,
            name: request.resourceNameFilter,
            pattern: request.patternTypeFilter,
            principal: request.principalFilter,
            host: request.hostFilter,
            operation: request.operation,
            permission: request.permissionType
        )
    }

    init?(_ filter: DeleteAclsRequest.DeleteAclsFilter) {
        self.init(
            resourceType: filter.resourceTypeFilter,
            name: filter.resourceNameFilter,
            pattern: filter.patternTypeFilter,
            principal: filter.principalFilter,
            host: filter.hostFilter,
            operation: filter.operation,
            permission: filter.permissionType
        )
    }

    func takes(_ acl: KafkaACL) -> Bool {
        (resourceType.map { $0 == acl.resourceType } ?? true) && (pattern.map { $0 == acl.pattern } ?? true)
            && (principal.map { $0 == acl.principal } ?? true) && (host.map { $0 == acl.normalisedHost } ?? true)
            && (operation.map { $0 == acl.operation } ?? true) && (permission.map { $0 == acl.permission } ?? true)
            && takesName(acl)
    }

    private func takesName(_ acl: KafkaACL) -> Bool {
        guard let name else { return true }
        guard isMatch else { return acl.resourceName == name }
        switch acl.pattern {
        case .literal: return acl.resourceName == name || acl.resourceName == "*"
        case .prefixed: return name.utf8.starts(with: acl.resourceName.utf8)
        }
    }
}

extension KafkaACL {
    /// Reads the protocol's numbers.
    ///
    /// - Throws: ``TopicRefusal``.
    fileprivate init(_ creation: CreateAclsRequest.AclCreation) throws {
        guard let type = ResourceType(number: creation.resourceType),
            let pattern = Pattern(number: creation.resourcePatternType),
            let operation = Operation(number: creation.operation),
            let permission = Permission(number: creation.permissionType)
        else {
            throw TopicRefusal(.invalidRequest, "the rule has a kind of resource, pattern or operation there is not")
        }
        self.init(
            permission,
            creation.principal,
            operation,
            on: type,
            creation.resourceName,
            pattern: pattern,
            host: creation.host
        )
    }
}

/// What the protocol writes as a number.
protocol ProtocolNumbered: CaseIterable {
    /// The protocol's number.
    var number: Int8 { get }
}

extension ProtocolNumbered {
    /// Reads the protocol's number; nil for one that stands for nothing here.
    init?(number: Int8) {
        guard let found = Self.allCases.first(where: { $0.number == number }) else { return nil }
        self = found
    }
}

extension KafkaACL.ResourceType: ProtocolNumbered {
    var number: Int8 {
        switch self {
        case .topic: 2
        case .group: 3
        case .cluster: 4
        case .transactionalID: 5
        }
    }
}

extension KafkaACL.Pattern: ProtocolNumbered {
    var number: Int8 { self == .literal ? 3 : 4 }
}

extension KafkaACL.Permission: ProtocolNumbered {
    var number: Int8 { self == .deny ? 2 : 3 }
}
