package edgetl

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The functions of edgetl_jni.c. */
internal object Native {
    init {
        System.loadLibrary("edgetl_jni")
    }

    external fun open(folder: String): Long
    external fun close(handle: Long)
    external fun graph(handle: Long): String
    external fun shape(handle: Long): LongArray
    external fun labels(handle: Long): Array<String>
    external fun prepare(
        handle: Long, first: ByteBuffer, firstStride: Long, second: ByteBuffer?, secondStride: Long,
        format: Int, width: Int, height: Int, rotation: Int, input: ByteBuffer,
    )
    external fun score(handle: Long, features: FloatArray): DoubleArray
}

/** How the bytes of a frame lie; the numbers are edgetl.h's. */
enum class Format(internal val code: Int) { RGB(1), BGR(2), RGBA(3), BGRA(4), NV12(5), NV21(6) }

/**
 * A bundle's folder: what comes before its network, and what comes after.
 *
 * The network, [graph], is run by onnxruntime's own package: from [input], which [prepare] fills, to
 * features, which [score] takes. One thread at a time; [close] it at the end.
 *
 * @throws IllegalStateException where edgetl refuses something, with its words.
 */
class Bundle(folder: String) : AutoCloseable {
    private var handle = Native.open(folder)
    private val numbers = Native.shape(handle)

    /** Path of the network's file, whose SHA-256 has been compared. */
    val graph: String = Native.graph(handle)
    val labels: Array<String> = Native.labels(handle)
    private val side = numbers[0]

    /** Of one input: (1, side, side, 3) or (1, 3, side, side). */
    val inputShape = if (numbers[1] == 1L) longArrayOf(1, side, side, 3) else longArrayOf(1, 3, side, side)

    /** Whether the network takes bytes rather than floats. */
    val takesBytes = numbers[2] == 2L
    val features = numbers[4].toInt()

    /** The network's input, for all frames; give it to OnnxTensor.createTensor once. */
    val input: ByteBuffer = ByteBuffer.allocateDirect(numbers[3].toInt()).order(ByteOrder.nativeOrder())

    /**
     * Writes a frame into [input].
     *
     * @param plane a direct buffer; for NV12 and NV21 the plane of Y, with [pairs] after it.
     * @param stride bytes from a row to the next.
     * @param rotation degrees clockwise that bring the frame upright.
     */
    fun prepare(
        plane: ByteBuffer, format: Format, width: Int, height: Int, stride: Int, rotation: Int = 0,
        pairs: ByteBuffer? = null, pairsStride: Int = 0,
    ) = Native.prepare(
        handle, plane, stride.toLong(), pairs, pairsStride.toLong(), format.code, width, height,
        rotation, input,
    )

    /** Probabilities in the order of [labels]. */
    fun score(features: FloatArray): DoubleArray = Native.score(handle, features)

    override fun close() {
        if (handle != 0L) Native.close(handle)
        handle = 0
    }
}
