// SPDX-License-Identifier: Apache-2.0

/// A lasting rule that devices belong to guests: the body of `POST /v1/claims` and an entry of vusb.yaml.
package struct ClaimSpec: Codable, Sendable, Equatable {
    package enum FailBack: String, Codable, Sendable, CaseIterable {
        /// The guest that stands first is given its device again when somebody says so.
        case never
        /// Once the guest that has it doesn't use it.
        case idle
        /// As `idle`, but after 5 s even if that uses it.
        case now
    }

    /// `[a-z0-9][a-z0-9-]{0,62}`
    package var name: String
    /// `TERM=VALUE`; all must fit.
    package var match: [String]
    /// `TERM=VALUE`; none may fit.
    package var except: [String]?
    /// In the order of succession; they need not be declared yet.
    package var guests: [String]
    /// Also what the host itself uses: a mounted disk, the console's keyboard. Default false.
    package var force: Bool?
    /// Default `never`.
    package var failBack: FailBack?

    package init(
        name: String, match: [String], except: [String]? = nil, guests: [String], force: Bool? = nil,
        failBack: FailBack? = nil
    ) {
        self.name = name
        self.match = match
        self.except = except
        self.guests = guests
        self.force = force
        self.failBack = failBack
    }
}

/// A claim, in its place among the others.
package struct ClaimInfo: Codable, Sendable, Equatable {
    package var name: String
    package var match: [String]
    package var except: [String]
    package var guests: [String]
    package var force: Bool
    package var failBack: ClaimSpec.FailBack
    /// `configuration` or `control`.
    package var declaredBy: String
    /// The devices that it decides on now, by their ids.
    package var devices: [String]

    package init(
        name: String, match: [String], except: [String], guests: [String], force: Bool, failBack: ClaimSpec.FailBack,
        declaredBy: String, devices: [String]
    ) {
        self.name = name
        self.match = match
        self.except = except
        self.guests = guests
        self.force = force
        self.failBack = failBack
        self.declaredBy = declaredBy
        self.devices = devices
    }
}

/// Who is to have a device, and why: the answer of `GET /v1/devices/{device}/claims`.
package struct ClaimExplanation: Codable, Sendable, Equatable {
    /// What one claim makes of the device.
    package struct Verdict: Codable, Sendable, Equatable {
        package var claim: String
        package var fits: Bool
        /// The first that fits.
        package var decides: Bool
        /// The term that doesn't fit, or why one that fits doesn't decide.
        package var reason: String?

        package init(claim: String, fits: Bool, decides: Bool, reason: String? = nil) {
            self.claim = claim
            self.fits = fits
            self.decides = decides
            self.reason = reason
        }
    }

    package var device: String
    /// The guest that has it.
    package var holder: String?
    /// The guest that is to have it now.
    package var heir: String?
    /// The row of Arbiter.md that decides: C1 to C5.
    package var row: String
    package var reason: String
    /// In the order in which they're looked at.
    package var claims: [Verdict]

    package init(
        device: String, holder: String? = nil, heir: String? = nil, row: String, reason: String, claims: [Verdict]
    ) {
        self.device = device
        self.holder = holder
        self.heir = heir
        self.row = row
        self.reason = reason
        self.claims = claims
    }
}
