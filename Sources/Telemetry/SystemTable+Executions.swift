// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Tables

extension SystemTable {
    /// The engine's own views over its tables.
    package static let views = [executions]

    /// `system.executions`: one row for each event that a deployment gave to a function, all attempts together.
    ///
    /// It is read from the spans that every attempt leaves when it ends. An attempt whose number is 1 begins a new execution, so an event
    /// that is delivered again by a replay is another one.
    private static let executions = SystemView(name: "executions", table: spans.name) { source in
        """
        SELECT max_by(span_id, start) AS id, pipeline, deployment, function, max_by(revision, start) AS revision, \
        event_id, any_value(event_type) AS event_type, min(start) AS started, \
        max(start + to_microseconds(duration_us)) AS ended, \
        CASE WHEN max_by(status, start) = 'ERROR' THEN 'failed' ELSE 'succeeded' END AS status, max(attempt) AS attempts, \
        CASE WHEN max_by(status, start) = 'ERROR' THEN max_by(status_message, start) END AS error, trace_id \
        FROM (SELECT *, count(*) FILTER (attempt = 1) OVER (PARTITION BY pipeline, deployment, event_id, trace_id \
        ORDER BY start, attempt) AS run \
        FROM (SELECT span_id, pipeline, function, event_id, event_type, start, duration_us, status, status_message, trace_id, \
        substr(name, 10) AS deployment, TRY_CAST(attributes->>'martlet.revision' AS BIGINT) AS revision, \
        coalesce(TRY_CAST(attributes->>'martlet.attempt' AS BIGINT), 1) AS attempt FROM \(source) \
        WHERE kind = 'SERVER' AND starts_with(name, 'function ') AND pipeline IS NOT NULL) WHERE revision IS NOT NULL) \
        GROUP BY pipeline, deployment, function, event_id, trace_id, run
        """
    }
}
