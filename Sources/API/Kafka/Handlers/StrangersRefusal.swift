// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

extension KafkaDoor {
    /// Why a client may change neither users nor rules, whatever the rules say; nil where it may be asked who it is.
    ///
    /// What a stranger wrote would hold, and could make a super user of him, once logins are switched on.
    func refusalOfStrangers(_ call: Call, toManage what: String, with command: String) -> TopicRefusal? {
        let knowsClients =
            call.session.login.authenticator != nil || security.tls?.requiresClientCertificate == true
        guard !knowsClients else { return nil }
        return TopicRefusal(
            .clusterAuthorizationFailed,
            "\(what) cannot be changed over Kafka where nobody has to log in; use: \(command)"
        )
    }
}
