// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird

/// Every path of the interface. A test compares it with `openapi.yaml`, both ways.
package enum RouteTable {
    package static let routes: [Route] = [
        Route(.get, "/v1/status", DaemonRoutes.status),
        Route(.get, "/v1/doctor", DaemonRoutes.doctor),
        Route(.get, "/v1/events", query: ["after"], EventStream.respond),
        Route(.get, "/openapi.json", DaemonRoutes.document),
        Route(.get, "/v1/devices", DeviceRoutes.list),
        Route(.post, "/v1/devices", body: .required, DeviceRoutes.emulate),
        Route(.get, "/v1/devices/{device}", DeviceRoutes.show),
        Route(.delete, "/v1/devices/{device}", DeviceRoutes.unplug),
        Route(
            .post, "/v1/devices/{device}/attach", body: .required, rights: .own(Concerned.attach), DeviceRoutes.attach),
        Route(
            .post, "/v1/devices/{device}/detach", body: .optional, rights: .own(Concerned.holder), DeviceRoutes.detach),
        Route(
            .post, "/v1/devices/{device}/switch", body: .required, rights: .own(Concerned.switchDevice),
            DeviceRoutes.switchDevice),
        Route(
            .post, "/v1/devices/{device}/request", body: .required, rights: .own(Concerned.attach), DeviceRoutes.request
        ),
        Route(.post, "/v1/devices/{device}/hold", body: .optional, rights: .own(Concerned.holder), DeviceRoutes.hold),
        Route(.delete, "/v1/devices/{device}/hold", rights: .own(Concerned.holder), DeviceRoutes.endHold),
        Route(.post, "/v1/devices/{device}/trust", DeviceRoutes.trust),
        Route(.post, "/v1/devices/{device}/type", body: .required, DeviceRoutes.type),
        Route(.get, "/v1/guests", GuestRoutes.list),
        Route(.post, "/v1/guests", body: .required, GuestRoutes.add),
        Route(.get, "/v1/guests/{guest}", GuestRoutes.show),
        Route(.delete, "/v1/guests/{guest}", GuestRoutes.remove),
        Route(.post, "/v1/guests/{guest}/load", body: .optional, rights: .own(Concerned.load), GuestRoutes.load),
        Route(
            .post, "/v1/guests/{guest}/unload", body: .optional, rights: .own(Concerned.pathGuest), GuestRoutes.unload),
        Route(.get, "/v1/devices/{device}/claims", ClaimRoutes.explain),
        Route(.get, "/v1/claims", ClaimRoutes.list),
        Route(.post, "/v1/claims", body: .required, ClaimRoutes.add),
        Route(.get, "/v1/claims/{claim}", ClaimRoutes.show),
        Route(.delete, "/v1/claims/{claim}", ClaimRoutes.remove),
        Route(.get, "/v1/imports", ImportRoutes.list),
        Route(.post, "/v1/imports", body: .required, ImportRoutes.add),
        Route(.get, "/v1/imports/{device}", ImportRoutes.show),
        Route(.delete, "/v1/imports/{device}", query: ["deadline", "onDeadline"], ImportRoutes.forget),
        // It makes vusbd connect to whatever is named.
        Route(.get, "/v1/servers/{server}/devices", rights: .operate, ImportRoutes.offers),
        Route(.get, "/v1/focus", FocusRoutes.list),
        Route(.post, "/v1/focus", body: .required, rights: .own(Concerned.focus), FocusRoutes.focus),
        Route(.get, "/v1/modules", DaemonRoutes.modules),
        Route(.get, "/v1/operations", OperationRoutes.list),
        Route(.get, "/v1/operations/{id}", query: ["wait", "after"], OperationRoutes.show),
        Route(.delete, "/v1/operations/{id}", rights: .own(Concerned.operation), OperationRoutes.cancel),
    ]

    enum Found {
        case route(Route, parameters: [String: String])
        case otherMethods([HTTPRequest.Method])
        case nothing
    }

    static func find(_ method: HTTPRequest.Method, _ path: [String]) -> Found {
        var others: [HTTPRequest.Method] = []
        for route in routes {
            guard let parameters = route.match(path) else { continue }
            if route.method == method { return .route(route, parameters: parameters) }
            others.append(route.method)
        }
        return others.isEmpty ? .nothing : .otherMethods(others)
    }
}
