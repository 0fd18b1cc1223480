r"""Head updates: the few kilobytes that make one head into another, sealed against any change.

A file ``*.etlh`` (integers little endian, no gaps)::

    offset     bytes
    0          8      magic: 89 45 54 4C 48 0D 0A 1A ("\x89ETLH\r\n\x1a")
    8          4      format: 1
    12         4      seal: 1 Ed25519 signature, 0 none (a SHA-256 against damage in its place)
    16         8      key id: the first 8 bytes of the SHA-256 of the raw public key (32 bytes);
                      zeros where the seal is 0
    24         4      m, at most 2^20
    28         4      a, at most 2^30
    32         m      manifest: one JSON object, UTF-8
    32+m       a      arrays: a safetensors file
    32+m+a     64|32  seal; the file ends here

The signature is RFC 8032's pure Ed25519 over the 23 bytes ``edgetl.head-update.v1`` NUL NUL
followed by the file's first 32+m+a bytes; the SHA-256 is over the same. A reader checks magic,
lengths (the file's size must be exactly their sum) and seal, in this order, and only then reads
anything else, the format included. The key id only helps to choose among several trusted keys and
to word an error. A signed file is never taken as an unsigned one.

The manifest's keys; readers ignore others::

    task              name of the task whose head changes
    generation        number of this update, above 0; a receiver takes only rising ones
    from_generation   what the sender's base was; for people
    backbone          `Manifest.graph_fingerprint` of the bundles that it is for
    preprocess        SHA-256 (hex) of their preprocessing's JSON, keys sorted, no spaces
    kind              kind of the head; the same before and after
    base              digest (hex) of the head that it is applied to: any head that the receiver
                      still has, such as the current one or the one that was shipped
    base_labels       labels of that head
    result            digest (hex) of the head that comes out
    labels            labels of that head; label i belongs to row i
    created           ISO 8601, UTC
    evidence          samples, accuracy_before, accuracy_after: of the update, as in the bundle;
                      precision: how much probabilities changed by storing differences coarsely

The digest of a head is the SHA-256 over all its arrays, names in ascending order of their bytes;
of each: the name, a NUL, the type as safetensors calls it, a NUL, the number of axes as uint32, the
lengths as uint64, the data (little endian, C order).

Names in the arrays part are ``GROUP.ARRAY`` or ``GROUP.ARRAY/PART``. The group ``head`` says how
each array of the new head comes about, in one of three ways; an array that is not mentioned is not
part of it. Readers ignore other groups.

``head.X``
    The array itself.
``head.X/keep`` (U8, length 0)
    As it is in the base.
``head.X/runs`` (I32, (r, 3)), ``head.X/step`` (I32, (1,)), ``head.X/data`` (U8, (bytes,))
    Rows (along the first axis; the type and the length of a row, d values, are those of the base's
    array X) one run after the other. A run is (start, count, width): `count` rows (at least 1) made
    from the base's rows start, start + 1, ...; start is -1 for rows that have none. What it is made
    of, by width:

    0         the base's rows, unchanged (start must not be -1). No bytes of data.
    1 to 24   float32 only. d numbers q per row, two's complement of `width` bits each, packed
              without gaps: number j has bits j width to (j + 1) width - 1, bit k of a row being bit
              k % 8 (of value 1 << k % 8) of its byte k / 8; a row has (d width + 7) / 8 bytes, and
              bits that are left over are 0. The value is ``base + q 2^step`` (``0 + q 2^step``
              without a base): q 2^step is exact in float32, so the one rounding is that of the
              sum, in float32, to nearest even; a fused multiply-add gives the same. A -0 of the
              base with q = 0 becomes +0 by that sum.
    -1        the rows' own bytes.

    -126 <= step <= 104, so that q 2^step is a normal number or zero. Data has exactly the bytes
    that the runs need. `r` is at least 1.

Whoever applies an update computes the digest of what came out and compares it with `result` before
anything is kept.
"""

from __future__ import annotations
