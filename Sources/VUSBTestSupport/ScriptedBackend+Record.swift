// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

extension ScriptedBackend {
    /// What a backend is called for.
    package enum Call: Sendable {
        case submit(URBToken, Submit)
        case cancel(URBToken)
        case reset
        case close
    }

    /// One expected call and its answer.
    package enum Record: Sendable {
        case submit(Submit, Answer)
        case cancel(CancelAnswer)
        /// Ends what is held with `shutdown`, then throws `error` where there is one.
        case reset(USBError?)

        var description: String {
            switch self {
            case .submit(let submit, _): "\(submit)"
            case .cancel: "cancel"
            case .reset: "reset"
            }
        }
    }

    package enum Answer: Sendable {
        /// The test completes it later, by `held` or `completeNext`.
        case hold
        /// Within `submit`, with `data` for an IN transfer.
        case complete(URBStatus = .success, data: [UInt8] = [], actualLength: Int? = nil)
        /// Within `submit`, whatever the test wants: another thread, two at once, a cancel from inside. The URB is held
        /// if that doesn't complete it.
        case run(@Sendable (ManualCompletion) -> Void)
    }

    package enum CancelAnswer: Sendable {
        /// Within `cancel`.
        case completeAsCancelled
        /// The cancel comes too late: the test completes the URB.
        case ignore
    }

    /// A submit, expected or seen. What is nil matches anything.
    package struct Submit: Sendable, CustomStringConvertible {
        package var endpoint: EndpointAddress?
        package var operation: URB.Operation?
        package var setup: SetupPacket?
        package var length: Int?
        /// Of an OUT transfer.
        package var bytes: [UInt8]?

        package init(
            endpoint: EndpointAddress? = nil,
            operation: URB.Operation? = nil,
            setup: SetupPacket? = nil,
            length: Int? = nil,
            bytes: [UInt8]? = nil
        ) {
            self.endpoint = endpoint
            self.operation = operation
            self.setup = setup
            self.length = length
            self.bytes = bytes
        }

        package init(_ urb: ManualCompletion) {
            self.init(
                endpoint: urb.endpoint,
                operation: urb.operation,
                setup: urb.setup,
                length: urb.requestedLength,
                bytes: urb.bytes
            )
        }

        package static let any = Submit()

        package static func `in`(_ endpoint: UInt8, _ length: Int) -> Submit {
            Submit(endpoint: EndpointAddress(rawValue: endpoint), length: length)
        }

        package static func out(_ endpoint: UInt8, _ bytes: [UInt8]) -> Submit {
            Submit(endpoint: EndpointAddress(rawValue: endpoint), length: bytes.count, bytes: bytes)
        }

        package static func control(_ setup: SetupPacket, _ bytes: [UInt8]? = nil) -> Submit {
            Submit(endpoint: .control, setup: setup, bytes: bytes)
        }

        package static func operation(_ operation: URB.Operation) -> Submit { Submit(operation: operation) }

        func matches(_ actual: Submit) -> Bool {
            (endpoint == nil || endpoint == actual.endpoint)
                && (operation == nil || operation == actual.operation)
                && (setup == nil || setup == actual.setup)
                && (length == nil || length == actual.length)
                && (bytes == nil || bytes == actual.bytes)
        }

        package var description: String {
            let parts = [
                endpoint.map { "endpoint \($0)" }, operation.map { "\($0)" }, setup.map { "\($0)" },
                length.map { "\($0) bytes" }, bytes.map { "\($0)" },
            ]
            return "submit " + parts.compactMap(\.self).joined(separator: ", ")
        }
    }
}
