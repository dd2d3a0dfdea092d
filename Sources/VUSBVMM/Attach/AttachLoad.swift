// SPDX-License-Identifier: Apache-2.0

/// What came of making a guest ready to attach devices inside.
package struct AttachLoad: Sendable {
    package var loaded: LoadedModules
    package var way: AttachWay

    package init(loaded: LoadedModules, way: AttachWay) {
        self.loaded = loaded
        self.way = way
    }
}
