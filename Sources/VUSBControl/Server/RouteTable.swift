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
        Route(.post, "/v1/devices/{device}/attach", body: .required, DeviceRoutes.attach),
        Route(.post, "/v1/devices/{device}/detach", body: .optional, DeviceRoutes.detach),
        Route(.post, "/v1/devices/{device}/type", body: .required, DeviceRoutes.type),
        Route(.get, "/v1/guests", GuestRoutes.list),
        Route(.post, "/v1/guests", body: .required, GuestRoutes.add),
        Route(.get, "/v1/guests/{guest}", GuestRoutes.show),
        Route(.delete, "/v1/guests/{guest}", GuestRoutes.remove),
        Route(.post, "/v1/guests/{guest}/load", body: .optional, GuestRoutes.load),
        Route(.post, "/v1/guests/{guest}/unload", body: .optional, GuestRoutes.unload),
        Route(.get, "/v1/modules", DaemonRoutes.modules),
        Route(.get, "/v1/operations", OperationRoutes.list),
        Route(.get, "/v1/operations/{id}", query: ["wait", "after"], OperationRoutes.show),
        Route(.delete, "/v1/operations/{id}", OperationRoutes.cancel),
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
