import CEdgetl
import CoreVideo
import Foundation

/// What edgetl refused, in its own words.
public struct EdgetlError: Error {
    public let status: edgetl_status
    public let words: String
}

private func check(_ status: edgetl_status) throws {
    guard status == EDGETL_OK else {
        throw EdgetlError(status: status, words: String(cString: edgetl_last_error()))
    }
}

/// A bundle's folder: what comes before its network, and what comes after.
///
/// The network, `graph`, is run by onnxruntime's own package: from `input`, which `prepare` fills, to
/// features, which `score` takes. One thread at a time.
public final class Bundle {
    private let handle: OpaquePointer
    private var options = edgetl_preprocess_options()

    /// The network's input, for all frames.
    public let input: NSMutableData

    public init(folder: URL) throws {
        var opened: OpaquePointer?
        try check(edgetl_bundle_open(folder.path, nil, &opened))
        handle = opened!
        options.struct_size = MemoryLayout<edgetl_preprocess_options>.size
        var bytes = 0
        do {
            try check(edgetl_bundle_check_graph(handle))
            try check(edgetl_bundle_preprocess(handle, &options))
            try check(edgetl_preprocess_bytes(&options, &bytes))
        } catch {
            edgetl_bundle_free(handle)
            throw error
        }
        input = NSMutableData(length: bytes)!
    }

    deinit { edgetl_bundle_free(handle) }

    public var graph: String { String(cString: edgetl_bundle_graph(handle)) }
    public var side: Int { Int(options.size) }
    public var takesBytes: Bool { options.dtype == Int32(EDGETL_UINT8) }
    public var isNHWC: Bool { options.layout == Int32(EDGETL_NHWC) }

    public var labels: [String] {
        let head = edgetl_bundle_head(handle)
        return (0..<edgetl_head_classes(head)).map { String(cString: edgetl_head_name(head, $0)) }
    }

    /// Writes a frame of kCVPixelFormatType_32BGRA, or of 420YpCbCr8BiPlanar, into `input`.
    public func prepare(_ buffer: CVPixelBuffer, rotation: Int32 = 0) throws {
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        var frame = edgetl_frame()
        frame.struct_size = MemoryLayout<edgetl_frame>.size
        frame.width = Int32(CVPixelBufferGetWidth(buffer))
        frame.height = Int32(CVPixelBufferGetHeight(buffer))
        frame.rotation = rotation
        let kind = CVPixelBufferGetPixelFormatType(buffer)
        if kind == kCVPixelFormatType_32BGRA {
            frame.format = Int32(EDGETL_BGRA)
            frame.planes.0 = bytes(CVPixelBufferGetBaseAddress(buffer))
            frame.strides.0 = Int64(CVPixelBufferGetBytesPerRow(buffer))
        } else {
            frame.format = Int32(EDGETL_NV12)
            let full = kind == kCVPixelFormatType_420YpCbCr8BiPlanarFullRange
            frame.range = Int32(full ? EDGETL_FULL : EDGETL_LIMITED)
            frame.planes.0 = bytes(CVPixelBufferGetBaseAddressOfPlane(buffer, 0))
            frame.planes.1 = bytes(CVPixelBufferGetBaseAddressOfPlane(buffer, 1))
            frame.strides.0 = Int64(CVPixelBufferGetBytesPerRowOfPlane(buffer, 0))
            frame.strides.1 = Int64(CVPixelBufferGetBytesPerRowOfPlane(buffer, 1))
        }
        try check(edgetl_preprocess(&frame, &options, input.mutableBytes, input.length))
    }

    /// Probabilities in the order of `labels`.
    public func score(_ features: [Float]) throws -> [Double] {
        let head = edgetl_bundle_head(handle)
        var result = [Double](repeating: 0, count: edgetl_head_classes(head))
        try check(edgetl_head_probabilities(head, features, 1, features.count, &result, result.count))
        return result
    }
}

private func bytes(_ address: UnsafeMutableRawPointer?) -> UnsafePointer<UInt8>? {
    UnsafePointer(address?.assumingMemoryBound(to: UInt8.self))
}
