// SPDX-License-Identifier: Apache-2.0

import VUSBCore

// Endpoint 0: control transfers, and the operations that `VirtualDevice` makes of some.
extension DeviceState {
    /// Nil where it waits on.
    mutating func serveControl(_ item: consuming QueuedURB) -> Step? {
        switch item.urb.operation {
        case .transfer:
            return serveControlTransfer(item)
        case .setConfiguration(let value):
            return change(item, to: ActiveSettings(blueprint.descriptors, configurationValue: value))
        case .setInterface(let interface, let alternate):
            var chosen = settings
            chosen.choose(interface, alternate: alternate, blueprint.descriptors)
            return change(item, to: chosen)
        case .clearHalt(let address):
            let isThere = clearHalt(address)
            begin(0)
            return .giveBack(item, isThere ? .success : .stall, endpoint: 0)
        }
    }

    /// All URBs of the old settings end first. Those under way are waited for: `next` asks again when one ends.
    private mutating func change(_ item: consuming QueuedURB, to new: ActiveSettings) -> Step? {
        guard underWay == 0 else {
            queues[0].prepend(item)
            return nil
        }
        var ended = URBQueue()
        for index in 1..<32 { queues[index].moveAll(to: &ended) }
        settings = new
        beginEpoch()
        begin(0)
        return .shutDown(ended, item)
    }

    /// False where the settings in force don't have the endpoint.
    mutating func clearHalt(_ address: EndpointAddress) -> Bool {
        guard settings.endpoint(address) != nil else { return false }
        if model.haltCleared(address) { halted.remove(address) }
        ready.insert(address.index)
        return true
    }

    private mutating func serveControlTransfer(_ item: consuming QueuedURB) -> Step? {
        guard let setup = item.urb.setup else {
            begin(0)
            return .giveBack(item, .invalid, endpoint: 0)
        }
        var effects = Effects()
        let reply =
            setup.kind == .standard ? standardRequest(setup) : model.control(setup, item.urb, effects: &effects)
        apply(effects)
        var status = URBStatus.success
        switch reply {
        case .wait:
            queues[0].prepend(item)
            return nil
        case .stall: status = .stall
        case .acknowledge: item.moved = setup.direction == .out ? Int(setup.wLength) : 0
        case .data(let bytes): item.moved = setup.direction == .in ? item.urb.write(bytes) : 0
        }
        begin(0)
        return .giveBack(item, status, endpoint: 0)
    }
}
