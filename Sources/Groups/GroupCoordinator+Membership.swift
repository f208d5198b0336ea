// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension GroupCoordinator {
    /// JoinGroup; waits until the next generation begins.
    package func join(_ request: GroupJoin.Request) async -> GroupJoin.Answer {
        if let error = refusal(of: request.group) { return .refused(error, memberID: request.memberID) }
        let promise = Promise<GroupJoin.Answer>()
        let freshID = request.memberID.isEmpty ? Self.memberID(for: request) : ""
        do {
            let found = try withGroup(request.group, creating: request.memberID.isEmpty) { contents, now in
                let caller = contents.register(.join(promise))
                contents.machine.join(
                    request,
                    freshID: freshID,
                    caller: caller,
                    now: now,
                    bytesLeft: self.memberBytesLeft
                )
                return caller
            }
            guard let (cell, caller) = found else { return .refused(.unknownMember, memberID: request.memberID) }
            interruptIfClosed(cell)
            let answer = await withTaskCancellationHandler {
                await promise.value()
            } onCancel: {
                abandon(caller, of: cell)
                promise.fulfil(.refused(.coordinatorNotAvailable, memberID: request.memberID))
            }
            // A group that was made for a join that was refused must not count among the groups.
            if answer.error != nil { forgetIfPristine(cell) }
            return answer
        } catch {
            return .refused(error, memberID: request.memberID)
        }
    }

    /// SyncGroup; waits for the leader's assignment, which is on disk when anybody is told of it.
    package func sync(_ request: GroupSync.Request) async -> GroupSync.Answer {
        if let error = refusal(of: request.group) { return .refused(error) }
        let promise = Promise<GroupSync.Answer>()
        do {
            let found = try withGroup(request.group, creating: false) { contents, now in
                let caller = contents.register(.sync(promise))
                contents.machine.sync(request, caller: caller, now: now, bytesLeft: self.memberBytesLeft)
                return caller
            }
            guard let (cell, caller) = found else { return .refused(.unknownMember) }
            interruptIfClosed(cell)
            return await withTaskCancellationHandler {
                await promise.value()
            } onCancel: {
                abandon(caller, of: cell)
                promise.fulfil(.refused(.coordinatorNotAvailable))
            }
        } catch {
            return .refused(error)
        }
    }

    private func abandon(_ caller: GroupCaller, of cell: GroupCell) {
        update(cell) { contents, now in
            guard contents.waiting.removeValue(forKey: caller) != nil else { return }
            contents.machine.abandon(caller, now: now)
        }
    }

    /// Heartbeat; nil for success.
    package func heartbeat(group: String, _ identity: GroupIdentity) -> GroupError? {
        if let error = refusal(of: group) { return error }
        do {
            let found = try withGroup(group, creating: false, isTouch: true) { contents, now in
                contents.machine.heartbeat(identity, now: now)
            }
            return found == nil ? .unknownMember : found?.1
        } catch {
            return error
        }
    }

    /// LeaveGroup, of several members at once.
    package func leave(group: String, _ members: [GroupLeave.Member]) -> GroupLeave.Answer {
        if let error = refusal(of: group) { return GroupLeave.Answer(error: error) }
        do {
            let found = try withGroup(group, creating: false) { contents, now in
                contents.machine.leave(members, now: now)
            }
            if let (_, answer) = found { return answer }
            return GroupLeave.Answer(
                members: members.map { GroupLeave.Outcome(member: $0, error: .unknownMember) }
            )
        } catch {
            return GroupLeave.Answer(error: error)
        }
    }
}
