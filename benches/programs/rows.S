# FUNCTIONS functions of eight unwind rows each: `through_rows`, in their middle, calls what its first argument points at.
# MARK makes each build another file.
    .macro one
    .cfi_startproc
    push %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx, 0
    push %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbp, 0
    push %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12, 0
    sub $24, %rsp
    .cfi_adjust_cfa_offset 24
    call *%rdi
    add $24, %rsp
    .cfi_adjust_cfa_offset -24
    pop %r12
    .cfi_adjust_cfa_offset -8
    pop %rbp
    .cfi_adjust_cfa_offset -8
    pop %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .endm

    .text
    .rept FUNCTIONS / 2
    one
    .endr
    .globl through_rows
    .type through_rows, @function
through_rows:
    one
    .rept FUNCTIONS / 2
    one
    .endr

    .section .rodata
    .globl rows_mark
rows_mark:
    .quad MARK
    .section .note.GNU-stack, "", @progbits
