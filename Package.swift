// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// One set of settings for every target: Swift 6, strict memory safety, every warning an error.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

func target(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

func program(_ name: String, _ dependencies: [Target.Dependency], path: String? = nil) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: path, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: name + "Tests",
        dependencies: [.byName(name: name), "VUSBTestSupport"] + (name == "VUSBCore" ? [] : ["VUSBCore"])
            + dependencies,
        swiftSettings: settings
    )
}

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let httpClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
    name: "vusb",
    products: [
        .executable(name: "vusbd", targets: ["vusbd"]),
        .executable(name: "vusbctl", targets: ["vusbctl"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.33.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.2.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
    ],
    targets: [
        // C borders.
        .systemLibrary(name: "CFuse3", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
        .systemLibrary(name: "CLibUSB", pkgConfig: "libusb-1.0", providers: [.apt(["libusb-1.0-0-dev"])]),
        .systemLibrary(
            name: "CUSBRedirParser", pkgConfig: "libusbredirparser-0.5",
            providers: [.apt(["libusbredirparser-dev"])]
        ),
        .target(name: "CVUSBShims"),

        // The core, and what stands on each side of it. Arrows point down only.
        target("VUSBCore", []),
        target("VUSBSystem", ["CVUSBShims"]),
        target("VUSBHost", ["VUSBCore", "VUSBSystem", "CLibUSB", "CVUSBShims", logging]),
        target("VUSBEmulation", ["VUSBCore", "VUSBSystem", "CVUSBShims"]),
        target("VUSBFileSystem", ["VUSBCore", "CFuse3", "CVUSBShims", logging]),
        target("VUSBUevent", ["VUSBCore", "CVUSBShims"]),
        target("VUSBRedir", ["VUSBCore", "VUSBSystem", "CUSBRedirParser", "CVUSBShims", deque]),
        target("VUSBCharDevice", ["VUSBCore", "VUSBSystem", "CFuse3", "CVUSBShims", deque]),
        target("VUSBIP", ["VUSBCore", "VUSBSystem", "CVUSBShims", nioCore, nioPosix, nioTLS, nioSSL, logging]),
        target("VUSBVMM", ["VUSBCore", "CVUSBShims", logging]),
        target(
            "VUSBControl",
            [
                hummingbird, hummingbirdCore, httpClient, httpTypes, nioCore, nioHTTP1, nioHTTPTypes, nioPosix,
                logging, lifecycle, yams,
            ],
            resources: [.embedInCode("openapi.yaml")]
        ),
        target(
            "VUSBDaemon",
            [
                "VUSBCore", "VUSBHost", "VUSBEmulation", "VUSBFileSystem", "VUSBCharDevice", "VUSBUevent", "VUSBRedir",
                "VUSBIP",
                "VUSBVMM",
                "VUSBControl", "CVUSBShims",
                logging, lifecycle, unixSignals, yams,
            ]
        ),
        // Tells Thread Sanitizer about `Mutex`; empty in other builds.
        .target(name: "CTestSupport"),
        target("VUSBTestSupport", ["VUSBCore", "CTestSupport"]),
        program("vusbd", ["VUSBDaemon", argumentParser, logging]),
        program("vusbctl", ["VUSBControl", argumentParser]),

        tests("VUSBCore", []),
        tests("VUSBHost", ["CLibUSB", logging]),
        tests("VUSBEmulation", []),
        tests("VUSBFileSystem", ["CFuse3", "CVUSBShims"]),
        tests("VUSBUevent", ["CVUSBShims"]),
        tests("VUSBRedir", ["CUSBRedirParser"]),
        tests("VUSBCharDevice", ["CFuse3"]),
        tests("VUSBIP", ["VUSBEmulation", nioCore, nioPosix, nioSSL, logging]),
        tests("VUSBVMM", []),
        tests("VUSBControl", ["vusbctl", logging, lifecycle, nioCore, httpTypes]),
        tests("VUSBDaemon", []),
    ]
)

// Fuzz targets only build with the fuzzer's runtime (`make fuzz`).
func fuzzer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: "Fuzz" + name,
        dependencies: dependencies + ["CFuzzMain"],
        path: "Tests/Fuzz/" + name,
        swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])],
        linkerSettings: [.unsafeFlags(["-use-ld=lld"])]
    )
}

if Context.environment["VUSB_FUZZ"] != nil {
    package.targets += [
        .target(name: "CFuzzMain", path: "Tests/Fuzz/CFuzzMain"),
        fuzzer("Descriptors", ["VUSBCore"]),
        fuzzer("Storage", ["VUSBCore"]),
        fuzzer("SetupPacket", ["VUSBCore", "VUSBTestSupport"]),
        fuzzer("Emulation", ["VUSBCore", "VUSBEmulation", "VUSBTestSupport"]),
        fuzzer("Uevent", ["VUSBHost"]),
        fuzzer("IsochronousFrame", ["VUSBCore", "VUSBFileSystem"]),
        fuzzer("HCDChannel", ["VUSBCore", "VUSBFileSystem", "VUSBTestSupport"]),
        fuzzer("Redir", ["VUSBCore", "VUSBRedir", "VUSBTestSupport"]),
        fuzzer("Usbfs", ["VUSBCore", "VUSBCharDevice", "VUSBTestSupport"]),
        fuzzer("USBIP", ["VUSBCore", "VUSBIP", "VUSBTestSupport"]),
        fuzzer("USBIPClient", ["VUSBCore", "VUSBIP", "VUSBTestSupport"]),
        fuzzer("ModuleFile", ["VUSBCore", "VUSBVMM"]),
        fuzzer("QMP", ["VUSBVMM"]),
        fuzzer("GuestAgent", ["VUSBVMM"]),
    ]
}
