"""Sizes and numbers of include/uapi/linux/fuse.h (7.45)."""

from __future__ import annotations

import struct

import pytest

from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode, opcode_name

# sizeof() of each struct, as the C compiler has it.
SIZES = {
    "IN_HEADER": 40,  # fuse_in_header
    "OUT_HEADER": 16,  # fuse_out_header
    "INIT_OUT": 64,  # fuse_init_out
    "ATTR": 88,  # fuse_attr
    "INTERRUPT_IN": 8,  # fuse_interrupt_in
    "NOTIFY_STORE_OUT": 24,  # fuse_notify_store_out
    "NOTIFY_INVAL_INODE_OUT": 24,  # fuse_notify_inval_inode_out
    "NOTIFY_INVAL_ENTRY_OUT": 16,  # fuse_notify_inval_entry_out
    "FORGET_IN": 8,  # fuse_forget_in
    "FORGET_ONE": 16,  # fuse_forget_one
    "BATCH_FORGET_IN": 8,  # fuse_batch_forget_in
    "GETATTR_IN": 16,  # fuse_getattr_in
    "SETATTR_IN": 88,  # fuse_setattr_in
    "MKNOD_IN": 16,  # fuse_mknod_in
    "MKDIR_IN": 8,  # fuse_mkdir_in
    "RENAME_IN": 8,  # fuse_rename_in
    "RENAME2_IN": 16,  # fuse_rename2_in
    "LINK_IN": 8,  # fuse_link_in
    "OPEN_IN": 8,  # fuse_open_in
    "CREATE_IN": 16,  # fuse_create_in
    "OPEN_OUT": 16,  # fuse_open_out
    "RELEASE_IN": 24,  # fuse_release_in
    "READ_IN": 40,  # fuse_read_in
    "WRITE_IN": 40,  # fuse_write_in
    "WRITE_OUT": 8,  # fuse_write_out
    "STATFS_OUT": 80,  # fuse_statfs_out
    "SYNCFS_IN": 8,  # fuse_syncfs_in
    "FSYNC_IN": 16,  # fuse_fsync_in
    "SETXATTR_IN": 16,  # fuse_setxattr_in
    "SETXATTR_IN_SHORT": 8,  # FUSE_COMPAT_SETXATTR_IN_SIZE
    "GETXATTR_IN": 8,  # fuse_getxattr_in
    "GETXATTR_OUT": 8,  # fuse_getxattr_out
    "IOCTL_IN": 32,  # fuse_ioctl_in
    "IOCTL_OUT": 16,  # fuse_ioctl_out
    "FALLOCATE_IN": 32,  # fuse_fallocate_in
    "LSEEK_IN": 24,  # fuse_lseek_in
    "LSEEK_OUT": 8,  # fuse_lseek_out
    "COPY_FILE_RANGE_IN": 56,  # fuse_copy_file_range_in
    "COPY_FILE_RANGE_OUT": 8,  # fuse_copy_file_range_out
    "STATX_IN": 24,  # fuse_statx_in
    "STATX_OUT": 32,  # fuse_statx_out up to its fuse_statx
    "DIRENT": 24,  # fuse_dirent
    "BACKING_MAP": 16,  # fuse_backing_map
    "URING_REQUEST": 276,  # fuse_uring_req_header up to payload_sz
    "URING_CMD_REQ": 24,  # fuse_uring_cmd_req
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_struct_has_the_size_of_the_kernel(name: str, size: int) -> None:
    layout = getattr(abi, name)
    assert isinstance(layout, struct.Struct)
    assert layout.size == size


def test_replies_made_of_two_structs() -> None:
    """fuse_entry_out, fuse_attr_out and fuse_direntplus."""
    assert (abi.ENTRY_SIZE, abi.ATTR_SIZE, abi.DIRENTPLUS_SIZE) == (128, 104, 152)


def test_the_flags_of_init_are_the_bits_of_the_kernel() -> None:
    bits = {name: flag.bit_length() - 1 for name, flag in vars(Init).items() if name.isupper()}
    assert bits["DO_READDIRPLUS"] == 13
    assert bits["HANDLE_KILLPRIV_V2"] == 28
    assert bits["INIT_EXT"] == 30
    assert bits["PASSTHROUGH"] == 37
    assert bits["OVER_IO_URING"] == 41
    assert abi.init_names(Init.PASSTHROUGH | Init.MAX_PAGES | 1 << 60) == "MAX_PAGES|PASSTHROUGH"
    assert abi.init_names(0) == ""


def test_an_opcode_is_logged_by_name_or_number() -> None:
    assert opcode_name(1) == "LOOKUP"
    assert opcode_name(Opcode.COPY_FILE_RANGE_64) == "COPY_FILE_RANGE_64"
    assert opcode_name(4096) == "opcode 4096"
