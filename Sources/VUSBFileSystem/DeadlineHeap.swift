// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Alarms, the earliest first; one for each receiver. Setting and taking one costs the logarithm of their number, and
/// nothing is allocated once there were as many.
struct DeadlineHeap {
    private struct Alarm {
        var time: UInt64
        let receiver: any AlarmReceiver
        var id: ObjectIdentifier { ObjectIdentifier(receiver) }
    }

    /// A binary heap: none is earlier than the one at half its index.
    private var alarms: [Alarm] = []
    /// Where in it each receiver is.
    private var places: [ObjectIdentifier: Int] = [:]

    /// The earliest.
    var first: UInt64? { alarms.first?.time }
    var count: Int { alarms.count }

    /// An alarm that is set for earlier stays.
    mutating func set(_ receiver: any AlarmReceiver, at time: UInt64) {
        if let place = places[ObjectIdentifier(receiver)] {
            guard time < alarms[place].time else { return }
            alarms[place].time = time
            rise(from: place)
        } else {
            alarms.append(Alarm(time: time, receiver: receiver))
            places[ObjectIdentifier(receiver)] = alarms.count - 1
            rise(from: alarms.count - 1)
        }
    }

    mutating func remove(_ receiver: any AlarmReceiver) {
        if let place = places[ObjectIdentifier(receiver)] { remove(at: place) }
    }

    /// Whose alarm is due, the earliest first; nil where none is.
    mutating func takeDue(_ now: UInt64) -> (any AlarmReceiver)? {
        guard let first = alarms.first, first.time <= now else { return nil }
        remove(at: 0)
        return first.receiver
    }

    private mutating func remove(at place: Int) {
        let last = alarms.count - 1
        swap(place, last)
        places[alarms.removeLast().id] = nil
        guard place < last else { return }
        rise(from: place)
        sink(from: place)
    }

    private mutating func rise(from start: Int) {
        var place = start
        while place > 0, alarms[place].time < alarms[(place - 1) / 2].time {
            swap(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    private mutating func sink(from start: Int) {
        var place = start
        while let child = earlierChild(of: place), alarms[child].time < alarms[place].time {
            swap(place, child)
            place = child
        }
    }

    private func earlierChild(of place: Int) -> Int? {
        let (left, right) = (2 * place + 1, 2 * place + 2)
        guard left < alarms.count else { return nil }
        return right < alarms.count && alarms[right].time < alarms[left].time ? right : left
    }

    private mutating func swap(_ one: Int, _ other: Int) {
        alarms.swapAt(one, other)
        places[alarms[one].id] = one
        places[alarms[other].id] = other
    }
}
